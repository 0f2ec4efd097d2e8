"""A closed mesh from four views' normal maps, fused in a grid of voxels."""
