"""A depth map and a normal map, each with its own faults, brought together."""

from __future__ import annotations

import numpy as np

from stages.geometry.normal_integration import integrate_normals

SIDE = 96
FOCAL = 3.7


def rays() -> tuple[np.ndarray, np.ndarray]:
    at = (np.arange(SIDE) + 0.5) * 2.0 / SIDE - 1.0
    u, v = np.meshgrid(at, -at)
    return u, v


def ball(radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, normals and mask of a ball at the origin, by central projection."""
    u, v = rays()
    # |(0, 0, f) + t (u / f, v / f, -1)|^2 = r^2 with t = f - depth
    a = 1.0 + (u**2 + v**2) / FOCAL**2
    root = FOCAL**2 - a * (FOCAL**2 - radius**2)
    inside = root > 0.02
    depth = FOCAL - (FOCAL - np.sqrt(np.maximum(root, 0.0))) / a
    near = 1.0 - depth / FOCAL
    normals = np.stack([near * u, near * v, depth], axis=-1) / radius
    return np.where(inside, depth, 0.0), normals, inside


def test_exact_normals_take_the_noise_from_a_depth_map() -> None:
    truth, normals, inside = ball(0.7)
    noisy = truth + np.random.default_rng(1).normal(0.0, 0.02, truth.shape)
    made = integrate_normals(noisy, normals, inside, FOCAL, np.full(truth.shape, 0.02))
    before, after = (np.abs(d - truth)[inside].mean() for d in (noisy, made))
    assert after < 0.5 * before
    assert np.array_equal(made[~inside], noisy[~inside])


def test_a_step_between_two_surfaces_stays() -> None:
    """Both face the camera, so the normals alone would make one plane of them."""
    u, _ = rays()
    depth = np.where(u < 0.0, 0.3, -0.3)
    normals = np.zeros((SIDE, SIDE, 3))
    normals[..., 2] = 1.0
    inside = np.ones(depth.shape, bool)
    made = integrate_normals(depth, normals, inside, 1e6, np.full(depth.shape, 0.01))
    assert np.abs(made - depth).max() < 0.03


def test_an_object_without_pixels_is_left_alone() -> None:
    depth = np.ones((SIDE, SIDE))
    nothing = np.zeros(depth.shape, bool)
    made = integrate_normals(depth, np.ones((SIDE, SIDE, 3)), nothing, FOCAL, depth)
    assert np.array_equal(made, depth)
