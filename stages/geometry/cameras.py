"""The bundle's cameras and their projection, in frame W (y up, azimuth 0 on +z, 90 on +x).

Conventions: docs/reference.md, "Frames and cameras". OpenGL camera axes: x right, y up, z from the
target towards the camera. Angles in degrees, float64 inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.geometry.camera_rig import BUNDLE_AZIMUTHS, BUNDLE_ELEVATION, FOVY, RADIUS

NEAR, FAR = 0.1, 1000.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the origin with +y up.

    azimuth, elevation, fovy in degrees; radius is the distance of its centre from the origin.
    """

    azimuth: float
    elevation: float = BUNDLE_ELEVATION
    radius: float = RADIUS
    fovy: float = FOVY

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): columns right, up, back in frame W, i.e. the camera-to-world rotation."""
        a, e = np.deg2rad([self.azimuth, self.elevation])
        right = (np.cos(a), 0.0, -np.sin(a))
        up = (-np.sin(e) * np.sin(a), np.cos(e), -np.sin(e) * np.cos(a))
        back = (np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a))
        return np.array([right, up, back], dtype=np.float64).T

    @property
    def center(self) -> np.ndarray:
        """(3,) camera centre in frame W."""
        return self.radius * self.axes[:, 2]

    @property
    def focal(self) -> float:
        """1 / tan(fovy / 2): NDC units per unit of x / z."""
        return float(1.0 / np.tan(np.deg2rad(self.fovy) / 2.0))

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points of frame W in OpenGL camera axes (x right, y up, z towards camera)."""
        return (points - self.center) @ self.axes

    def to_clip(self, points: np.ndarray) -> np.ndarray:
        """(V, 3) points -> (V, 4) clip coordinates; w is the depth along the optical axis.

        y is not negated: clip y points up. The rasteriser puts row 0 at the top.
        """
        x, y, z = np.moveaxis(self.to_camera(points), -1, 0)
        clip_z = (-(FAR + NEAR) * z - 2 * FAR * NEAR) / (FAR - NEAR)
        return np.stack([self.focal * x, self.focal * y, clip_z, -z], axis=-1)

    def project(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates and depth of (..., 3) points in a square image of `size` pixels.

        Returns (..., 2) float64 (column, row), where pixel (i, j)'s centre is (j + 0.5, i + 0.5),
        and (...,) depth along the optical axis (> 0 in front of the camera).
        """
        x, y, z = np.moveaxis(self.to_camera(points), -1, 0)
        depth = -z
        column = (self.focal * x / depth + 1.0) * size / 2.0
        row = (1.0 - self.focal * y / depth) * size / 2.0
        return np.stack([column, row], axis=-1), depth

    def pixel_rays(self, size: int) -> np.ndarray:
        """(size, size, 3) directions in frame W through the pixel centres, with depth 1.

        `center + depth * ray` is the point that a pixel shows at that depth.
        """
        steps = (np.arange(size) + 0.5) * 2.0 / size - 1.0
        u, v = np.meshgrid(steps / self.focal, -steps / self.focal)
        return np.stack([u, v, -np.ones_like(u)], axis=-1) @ self.axes.T


def bundle_cameras(radius: float = RADIUS) -> tuple[Camera, ...]:
    """The four cameras of a bundle, in column order."""
    return tuple(Camera(azimuth, radius=radius) for azimuth in BUNDLE_AZIMUTHS)


def encode_normals(normals: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 3) unit normals of frame W -> the bundle's colours in [0, 1].

    v = (n' + 1) / 2 with n' = (-n_x, n_y, n_z) and n in camera axes: red is high on surfaces that
    face image-left, green high = up, blue high = towards the camera.
    """
    local = normals @ camera.axes
    return (local * (-1.0, 1.0, 1.0) + 1.0) / 2.0


def decode_normals(colors: np.ndarray, camera: Camera) -> np.ndarray:
    """Inverse of `encode_normals`, renormalised: (..., 3) in [0, 1] -> unit normals in frame W."""
    local = (colors * 2.0 - 1.0) * (-1.0, 1.0, 1.0)
    world = local @ camera.axes.T
    length = np.linalg.norm(world, axis=-1, keepdims=True)
    return world / np.maximum(length, 1e-8)
