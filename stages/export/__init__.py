"""Meshes in other formats: read, reduced, closed for printing, written (`kiss3d-orchestrate export`).

It stands above the stages, since it textures anew with isomer's own code.
"""
