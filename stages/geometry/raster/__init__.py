"""Which face does a pixel show? One interface, three backends.

rasterizer = open_rasterizer("auto", context.device, context.threads)
fragments = rasterizer.rasterize(camera.to_clip(vertices), faces, (512, 512))
"""

from stages.geometry.raster.choose import open_rasterizer
from stages.geometry.raster.interface import (
    NEAR_DEPTH,
    Fragments,
    Rasterizer,
    RasterizerName,
    TensorRasterizer,
    interpolate,
    rehearse,
    visible_faces,
)

__all__ = [
    "NEAR_DEPTH",
    "Fragments",
    "Rasterizer",
    "RasterizerName",
    "TensorRasterizer",
    "interpolate",
    "open_rasterizer",
    "rehearse",
    "visible_faces",
]
