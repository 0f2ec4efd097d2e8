"""Geometry and image helpers that several stages share. No torch at import time."""
