"""What a command does, without a screen: run, batch, resume, single stage, clean, doctor."""
