"""A small object for tests of isomer in a graph: its bundle, and a start that is a little off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.contract import Context, Mesh, Stage, artifacts

SIZE = 64


def ellipsoid(x: float, y: float, z: float) -> Mesh:
    """An ellipsoid with these half axes, about 1,300 vertices."""
    import numpy as np
    from skimage.measure import marching_cubes

    steps = np.linspace(-1.0, 1.0, 25)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    field = np.linalg.norm(grid / (x, y, z), axis=-1) - 1.0
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="ascent")
    return Mesh((vertices / 12.0 - 1.0).astype(np.float32), faces[:, ::-1].astype(np.int32))


class Egg(Stage):
    """Whatever the input is, an egg."""

    name = "fake.egg"
    summary = "a bundle of 64 x 64 tiles and a coarse mesh"
    inputs = (artifacts.INPUT_IMAGE,)
    outputs = (artifacts.BUNDLE, artifacts.COARSE_MESH)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        from stages.geometry.bundle import join
        from stages.geometry.cameras import bundle_cameras
        from stages.geometry.raster import interpolate, open_rasterizer
        from stages.geometry.render import look, normal_tile, resolve, vertex_normals

        truth, rasterizer = ellipsoid(0.6, 0.8, 0.7), open_rasterizer("cpu")
        normals = vertex_normals(truth.vertices, truth.faces)
        colors = (truth.vertices + 1.0) / 2.0
        rgb, tiles = [], []
        for camera in bundle_cameras():
            seen = look(truth.vertices, truth.faces, camera, SIZE, 2, rasterizer)
            rgb.append(resolve(interpolate(seen, truth.faces, colors), seen, 2))
            tiles.append(normal_tile(seen, truth.faces, normals, camera, 2))
        bundle = join(np.stack(rgb), np.stack(tiles)).astype(np.float32)
        return {"bundle": bundle, "coarse_mesh": ellipsoid(0.57, 0.76, 0.7)}
