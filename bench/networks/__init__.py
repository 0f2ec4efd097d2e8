"""What settings of the networks do to their speed and to their numbers."""
