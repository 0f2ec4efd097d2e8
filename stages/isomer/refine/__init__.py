"""Refinement of a mesh against four normal maps and silhouettes, in plain PyTorch."""
