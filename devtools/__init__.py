"""What tests and benches share: fake stages, tiny models, pictures and shapes. Not shipped."""
