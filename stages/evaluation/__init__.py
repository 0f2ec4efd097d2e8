"""How good is a mesh? Its surface against a true one, and its pictures against true pictures.

scores = compare_surfaces(normalized(mesh), normalized(truth))
scores = compare_views(view_mesh(mesh, cameras, 512, rasterizer), truth_views)
"""

from stages.evaluation.surface import (
    SAMPLES,
    TAU,
    SurfaceScores,
    compare_surfaces,
    normalized,
    sample_surface,
)
from stages.evaluation.tree import TriangleTree
from stages.evaluation.views import (
    Views,
    ViewScores,
    compare_views,
    psnr,
    silhouette_iou,
    view_mesh,
)

__all__ = [
    "SAMPLES",
    "TAU",
    "SurfaceScores",
    "TriangleTree",
    "ViewScores",
    "Views",
    "compare_surfaces",
    "compare_views",
    "normalized",
    "psnr",
    "sample_surface",
    "silhouette_iou",
    "view_mesh",
]
