"""Weights as files: catalogue, finding, identity, safe checkpoint reading, conversion."""
