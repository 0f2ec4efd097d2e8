"""Everything at full size: checkpoints with random weights, and what is measured with them."""
