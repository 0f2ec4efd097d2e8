"""What isolation, the hand-over between processes and helpers of stages cost."""
