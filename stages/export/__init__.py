"""Meshes in other formats, for `kiss3d-orchestrate export`: read, reduced, closed, written.

The package stands above the stages, since it textures anew with isomer's own code.
"""
