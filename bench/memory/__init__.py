"""What the models take of a card at their published size."""
