"""Input picture -> the object alone, centred on a white square, and its alpha."""
