"""A UV texture for the final mesh: charts, their places in a square, colours for every texel."""
