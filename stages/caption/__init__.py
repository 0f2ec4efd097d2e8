"""Image -> what it shows, in words (Florence-2)."""
