"""The sketch's network: cut-out, depth, normals and thickness of an object from one picture."""
