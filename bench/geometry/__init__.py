"""Meshes against known truths, and the seconds of what makes them."""
