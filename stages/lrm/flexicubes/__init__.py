"""Surface extraction with learned weights, on the grid of the LRM. Imports torch.

positions = vertex_positions(torch.arange(vertex_count(R)), R, scale)
vertices, faces = extract(sdf, deformation, cube_weights, R, scale)
"""

from stages.lrm.flexicubes.extract import CubeWeights, NoSurfaceError, extract
from stages.lrm.flexicubes.grid import cube_corners, vertex_count, vertex_positions

__all__ = [
    "CubeWeights",
    "NoSurfaceError",
    "cube_corners",
    "extract",
    "vertex_count",
    "vertex_positions",
]
