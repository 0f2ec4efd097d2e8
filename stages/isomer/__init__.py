"""ISOMER: refine a coarse mesh with the bundle's normals, colour it and export it."""
