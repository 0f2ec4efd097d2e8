"""Surface extraction with learned weights, on the grid of the LRM."""
