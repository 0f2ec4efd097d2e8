"""A scene as a picture: a small sphere tracer in NumPy (Hart, "Sphere tracing", 1996)."""

from __future__ import annotations

import numpy as np
from PIL import Image
from toys.scene import Scene, srgb
from toys.shapes import Points, vec

SUPERSAMPLING = 3
CAMERA = 6.0
"""Distance of the camera from the origin; a scene's `reach` fills the picture."""
KEY_LIGHT, FILL_LIGHT = vec(-0.55, 0.72, 0.62), vec(0.8, 0.15, 0.5)


def towards(axes: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A direction given in the camera's axes as a unit vector of the scene."""
    return axes.T @ (direction / np.linalg.norm(direction))


def march(scene: Scene, origin: np.ndarray, ray: np.ndarray, steps: int = 96) -> np.ndarray:
    """Distance along each ray to the surface, infinity where it misses. (N, 3), (N, 3) -> (N,)."""
    closest = -np.einsum("ij,ij->i", origin, ray)
    aside = np.linalg.norm(origin + closest[:, None] * ray, axis=1)
    half_chord = np.sqrt(np.maximum(scene.reach**2 - aside**2, 0.0))
    travelled = np.maximum(closest - half_chord, 0.0).astype(np.float32)
    limit = closest + half_chord
    result = np.full(len(ray), np.inf, np.float32)
    active = np.flatnonzero(aside < scene.reach)
    for _ in range(steps):
        if not len(active):
            break
        gap = scene.distance(origin[active] + travelled[active, None] * ray[active])
        travelled[active] += 0.9 * gap
        hit = gap < 1e-3
        result[active[hit]] = travelled[active[hit]]
        active = active[~hit & (travelled[active] < limit[active])]
    return result


def normals(scene: Scene, p: Points) -> np.ndarray:
    """Gradient of the distance, from four samples on a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    total = sum(corner * scene.distance(p + 1.5e-3 * corner)[:, None] for corner in corners)
    gradient = np.asarray(total, np.float32)
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)


def soft_shadow(scene: Scene, p: Points, light: np.ndarray, hardness: float) -> np.ndarray:
    """Share of a round light that is seen from `p`: the closest miss, seen as an angle."""
    seen = np.ones(len(p), np.float32)
    travelled = np.full(len(p), 0.03, np.float32)
    active = np.arange(len(p))
    for _ in range(40):
        if not len(active):
            break
        gap = scene.distance(p[active] + travelled[active, None] * light)
        seen[active] = np.minimum(seen[active], 0.5 + 0.5 * hardness * gap / travelled[active])
        travelled[active] += np.clip(np.abs(gap), 0.02, 0.25)
        active = active[(seen[active] > 0.0) & (travelled[active] < 2.6)]
    seen = np.clip(seen, 0.0, 1.0)
    smooth: np.ndarray = seen * seen * (3.0 - 2.0 * seen)
    return smooth


def ambient(scene: Scene, p: Points, normal: np.ndarray) -> np.ndarray:
    """Openness in [0.25, 1]: how much nearer the surfaces around are than free space would be."""
    closed = np.zeros(len(p), np.float32)
    for reach, weight in ((0.03, 0.9), (0.08, 0.6), (0.18, 0.4), (0.35, 0.25)):
        closed += weight * (reach - scene.distance(p + reach * normal)) / reach * 0.55
    return np.clip(1.0 - closed, 0.25, 1.0)


def shoulder(colour: np.ndarray) -> np.ndarray:
    """Compress highlights to at most 0.95, so that nothing on an object is as white as paper."""
    return np.where(colour < 0.7, colour, 0.7 + 0.25 * np.tanh((colour - 0.7) / 0.25))


def shade(scene: Scene, p: Points, ray: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Linear colour (N, 3) of surface points. The lights hang on the camera's `axes`."""
    key, fill = towards(axes, KEY_LIGHT), towards(axes, FILL_LIGHT)
    normal = normals(scene, p)
    part = scene.nearest_part(p)
    albedo = np.empty_like(p)
    for index, item in enumerate(scene.parts):
        mine = part == index
        if mine.any():
            albedo[mine] = item.paint(p[mine])
    gloss = np.array([item.gloss for item in scene.parts], np.float32)[part]
    glow = np.array([item.glow for item in scene.parts], np.float32)[part]

    openness = ambient(scene, p, normal)
    lit = np.maximum(normal @ key, 0.0)
    facing = lit > 0.0
    shadow = np.zeros(len(p), np.float32)
    shadow[facing] = soft_shadow(scene, p[facing] + 4e-3 * normal[facing], key, 5.0)
    sky = vec(0.94, 0.98, 1.06) * (0.36 + 0.16 * normal[:, 1:2]) * openness[:, None]
    sun = vec(1.05, 1.0, 0.93) * (0.78 * lit * shadow)[:, None]
    side = vec(0.95, 0.98, 1.0) * (0.2 * np.maximum(normal @ fill, 0.0) * openness)[:, None]
    colour = albedo * (sky + sun + side + glow[:, None])

    halfway = key - ray
    halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
    highlight = np.maximum(np.einsum("ij,ij->i", normal, halfway), 0.0) ** (12 + 140 * gloss)
    grazing = (1.0 - np.clip(-np.einsum("ij,ij->i", normal, ray), 0.0, 1.0)) ** 4
    sheen = gloss * (0.55 * highlight * shadow + 0.16 * grazing * openness)
    return shoulder(colour + sheen[:, None])


def floor_shade(scene: Scene, origin: np.ndarray, ray: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """How much light the floor keeps beside the object, (N,) in (0, 1]."""
    key = towards(axes, KEY_LIGHT)
    kept = np.ones(len(ray), np.float32)
    down = ray[:, 1] < -1e-3
    travelled = (scene.floor - origin[down, 1]) / ray[down, 1]
    p = origin[down] + travelled[:, None] * ray[down]
    near = np.linalg.norm(p, axis=1) < 3.0 * scene.reach
    index = np.flatnonzero(down)[near]
    p = p[near]
    up = np.broadcast_to(vec(0, 1, 0), p.shape)
    light = soft_shadow(scene, p + vec(0, 4e-3, 0), key, 2.2)
    kept[index] = (0.62 + 0.38 * light) * (0.55 + 0.45 * ambient(scene, p, up))
    return kept


def studio(y: np.ndarray) -> np.ndarray:
    """Backdrop (N, 3), linear: y in [0, 1] from the top of the picture to its bottom."""
    top, bottom = srgb("#dfe4ea"), srgb("#f4f2ee")
    return top + (bottom - top) * y[:, None] ** 1.3


def render(scene: Scene, size: int, supersampling: int = SUPERSAMPLING) -> Image.Image:
    """The scene as a picture of `size` x `size`, RGBA when its background is transparent."""
    azimuth, elevation = np.deg2rad(scene.azimuth), np.deg2rad(scene.elevation)
    back = vec(
        np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)
    )
    right = vec(np.cos(azimuth), 0, -np.sin(azimuth))
    axes = np.stack([right, np.cross(back, right), back]).astype(np.float32)
    fine = size * supersampling
    grid = (np.arange(fine, dtype=np.float32) + 0.5) / fine
    tan_half = np.float32(scene.reach / CAMERA)
    rows = []
    band = max(1, 60_000 // fine)
    for start in range(0, fine, band):
        v, u = np.meshgrid(grid[start : start + band], grid, indexing="ij")
        u, v = u.ravel(), v.ravel()
        local = np.stack([(2 * u - 1) * tan_half, (1 - 2 * v) * tan_half, -np.ones_like(u)], axis=1)
        ray = (local / np.linalg.norm(local, axis=1, keepdims=True)) @ axes
        origin = np.broadcast_to(CAMERA * back, ray.shape)
        travelled = march(scene, origin, ray)
        hit = np.isfinite(travelled)
        colour = np.ones((len(ray), 4), np.float32)
        colour[:, 3] = hit
        if scene.background == "studio":
            miss = ~hit
            kept = floor_shade(scene, origin[miss], ray[miss], axes)
            colour[miss, :3] = studio(v[miss]) * kept[:, None]
        p = origin[hit] + travelled[hit, None] * ray[hit]
        colour[hit, :3] = shade(scene, p, ray[hit], axes)
        rows.append(colour.reshape(-1, fine, 4))
    return develop(np.concatenate(rows), supersampling, scene.background == "transparent")


def develop(linear: np.ndarray, supersampling: int, transparent: bool) -> Image.Image:
    """Linear samples -> sRGB picture. Averages display values, as image editors composite them."""
    rgb = np.clip(linear[..., :3], 0.0, 1.0)
    display = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    cover = linear[..., 3:]
    size = len(linear) // supersampling
    blocks = (size, supersampling, size, supersampling, -1)
    if not transparent:
        flat = display.reshape(blocks).mean(axis=(1, 3))
        return Image.fromarray(np.rint(flat * 255).astype(np.uint8))
    alpha = cover.reshape(blocks).mean(axis=(1, 3))
    straight = (display * cover).reshape(blocks).mean(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    both = np.concatenate([np.clip(straight, 0.0, 1.0), alpha], axis=-1)
    return Image.fromarray(np.rint(both * 255).astype(np.uint8))
