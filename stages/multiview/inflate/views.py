"""From picture and silhouette to the four views of a bundle and their normal maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from stages.contract import BadInput, Mesh
from stages.geometry.bundle import TILE
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import look, resolve, resolve_normals, vertex_normals
from stages.geometry.silhouette_membrane import half_depth, membrane
from stages.models.sketch_net.opening import See
from stages.multiview.inflate.learned import Sheets, see_sheets
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.relief import shading_relief
from stages.multiview.inflate.sheets import Body, Depths, weld
from stages.multiview.inflate.standing import stood_up
from stages.multiview.inflate.texture import (
    Textures,
    make_known_textures,
    make_textures,
    without_line_round,
)

SAMPLES = 2
"""Sample points a pixel each way."""
FRAME = 0.98
"""Share of a tile's half that the body may fill in the side and back views."""
SMALLEST = 0.5
"""Scale at which fitting gives up: also a ball that fills the whole picture fits by 0.7, and what
the network sees in a picture of nothing by 0.5."""
COLOR_REACH = 0.5
"""Distance from the rim, scene units, over which its colours fade from the back."""
ROW_STIFFNESS = 0.15
"""Colours spread along rows: most objects look alike all round at one height, and the red of a
roof should not mix with the green below it."""
SMOOTHING = 1.0
"""Blur of the silhouette in nodes: a rough outline becomes ridges in the side views."""
THIN_COVERAGE = 0.9
"""Of the middle line of a part thinner than the grid."""
MIN_PART = 5e-5
"""Parts and holes smaller than this share of the picture are dust."""
DARKER = 0.1
"""Than what is within, the line round a drawing is by more than that, mean of the channels."""
WHITE = 0.8
"""Least of a colour's channels from which on it counts as white."""
TURNED = 0.7
"""Cosine towards the front camera: below, a surface turns away."""


@dataclass(frozen=True)
class FourViews:
    """An object seen from the bundle's cameras.

    views    (4, 512, 512, 3) uint8 sRGB on white
    normals  the same shape, uint8 in the bundle's encoding
    body     what is seen, closed, in frame W; None where the views are not all pictures of one body
    stood    degrees by which the body was turned back to stand; with any, view 0 is not the picture
    """

    views: np.ndarray
    normals: np.ndarray
    body: Mesh | None
    stood: float = 0.0


def clean_silhouette(alpha: np.ndarray, size: int) -> np.ndarray:
    """(S, S) in [0, 1] -> (size, size) float32 coverage with an empty border and without dust.

    Raises BadInput if nothing of the object is left.
    """
    small = cv2.resize(alpha, (size, size), interpolation=cv2.INTER_AREA)
    # The 0.5 contour of a hard mask shows its pixels' stairs; this rounds them off.
    hard, small = small, cv2.GaussianBlur(small, (0, 0), SMOOTHING)
    small = np.maximum(small, _thin_parts(alpha, hard, small))
    small[[0, -1]] = small[:, [0, -1]] = 0.0
    least = max(4, round(MIN_PART * size * size))
    for value, fill in ((1, 0.0), (0, 1.0)):
        found = ((small > 0.5) == value).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=4)
        dust = np.flatnonzero(stats[:count, cv2.CC_STAT_AREA] < least)
        small[np.isin(labels, dust[dust > 0])] = fill
    if not (small > 0.5).any():
        raise BadInput(
            "the picture shows no object: its alpha is empty",
            "check the picture, or the background removal of the preprocess stage",
        )
    return small


def _thin_parts(alpha: np.ndarray, hard: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Coverage of nodes on parts of (S, S) `alpha` that are thinner than two nodes, and would be
    lost by smoothing: their middle line, one node wide.

    hard, smooth  (N, N) coverage of the grid, as it is and smoothed
    """
    size = len(hard)
    mask = (alpha > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    ridge = ((mask > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))).astype(np.uint8)
    rows, columns = np.nonzero(ridge)
    line = np.zeros(hard.shape, bool)
    scale = size / len(alpha)
    line[(rows * scale).astype(int), (columns * scale).astype(int)] = True
    # Steps of the line across a corner are bridged, so that it stays one piece.
    line = cv2.morphologyEx(line.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    lost = line & (smooth <= THIN_COVERAGE) & (hard > 0.1)
    return np.where(lost, np.float32(THIN_COVERAGE), np.float32(0.0))


def inflate_body(
    picture: np.ndarray,
    alpha: np.ndarray,
    params: InflateParams,
    seen: Sheets | None = None,
    scale: float = 1.0,
) -> Body:
    """The closed mesh, centred in depth.

    picture  (S, S, 3) float32 in [0, 1]; alpha (S, S) float32 in [0, 1]
    seen     what the network sees in the picture before it was shrunk by `scale`; without it the
             silhouette is inflated

    Raises BadInput if alpha shows no object.
    """
    silhouette = clean_silhouette(alpha, params.grid)
    if seen is None:
        depths = _inflated(silhouette, picture, params)
    else:
        depths = _as_seen(seen, scale, params.grid)
    return centred(weld(silhouette, depths, bundle_cameras()[0]))


def _inflated(silhouette: np.ndarray, picture: np.ndarray, params: InflateParams) -> Depths:
    """Both sheets swell along the rays from the upright plane through the origin."""
    size = params.grid
    sheet = membrane(silhouette, _node_distance(size), params.max_depth / 2.0)
    swell = params.thickness * half_depth(sheet)
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    relief = shading_relief(small, sheet.inside, swell, params.relief)
    camera = bundle_cameras()[0]
    rays = camera.pixel_rays(size)
    length = np.linalg.norm(rays, axis=-1)
    plane = -camera.center[2] / rays[..., 2]
    return Depths(
        front=plane - (swell + relief) / length,
        back=plane + params.back_depth * swell / length,
        rim=plane,
    )


def _as_seen(seen: Sheets, scale: float, size: int) -> Depths:
    camera = bundle_cameras()[0]
    half_width = camera.radius / camera.focal
    front, thickness = (half_width * values for values in seen.fitted(scale, size))
    near = camera.radius - front
    return Depths(front=near, back=near + thickness, rim=near + thickness / 2.0)


def paint(
    picture: np.ndarray,
    alpha: np.ndarray,
    params: InflateParams,
    seen: Sheets | None = None,
    scale: float = 1.0,
) -> Textures:
    """The colours of the body that `inflate_body` makes of the same picture."""
    silhouette = clean_silhouette(alpha, params.grid)
    rows = membrane(silhouette, _node_distance(params.grid), COLOR_REACH, ROW_STIFFNESS)
    if seen is None:
        return make_textures(picture, alpha, rows)
    own, behind, detail = seen.colours(scale, len(picture))
    return make_known_textures(picture, own, behind, alpha, rows, detail)


def _node_distance(grid: int) -> float:
    """Between neighbours of the height field at the origin's depth, scene units."""
    camera = bundle_cameras()[0]
    return 2.0 * camera.radius / (camera.focal * grid)


def centred(body: Body) -> Body:
    """Moved in depth until z = 0 is the middle of the body's box.

    The front is deeper than the back, so a body welded on z = 0 is not. It slides along the rays of
    the front camera (a homothety about its centre), which does not change the front view.
    """
    center = bundle_cameras()[0].center
    z = body.vertices[:, 2].astype(np.float64)
    scale = center[2] / (center[2] - (z.min() + z.max()) / 2.0)
    moved = center + scale * (body.vertices - center)
    return replace(body, vertices=moved.astype(np.float32))


def fitting_scale(points: np.ndarray, first: int = 1) -> float:
    """The largest scale about the origin, at most 1, at which no view from number `first` on cuts
    off (V, 3) points.

    What is near a side camera looks larger in its view than the picture shows it, so a tall body
    that fills 85 % of the picture may not fit.
    """
    vertices = points.astype(np.float64)
    for scale in np.linspace(1.0, SMALLEST, 51).tolist():
        clips = (camera.to_clip(scale * vertices) for camera in bundle_cameras()[first:])
        if all(bool((np.abs(c[:, :2]) <= FRAME * c[:, 3:]).all()) for c in clips):
            break
    return float(scale)


def render_views(
    body: Body, painted: np.ndarray, textures: Textures, rasterizer: Rasterizer
) -> tuple[np.ndarray, np.ndarray]:
    """The body from the bundle's cameras: colours and normal maps, (4, 512, 512, 3) float32.

    painted  (V, 3) of `texture_position`
    """
    attributes = np.concatenate([body.normals, painted], axis=1)
    colors, maps = [], []
    for camera in bundle_cameras():
        seen = look(body.vertices, body.faces, camera, TILE, SAMPLES, rasterizer)
        values = interpolate(seen, body.faces, attributes)
        maps.append(resolve_normals(values[..., :3], seen, camera, SAMPLES))
        covered = seen.covered
        at, facing = values[covered, 3:5], values[covered, 5]
        image = np.zeros((*covered.shape, 3), np.float32)
        on_front = seen.pix_to_face[covered] < body.front_faces
        image[covered] = textures.sample(at, facing, on_front)
        colors.append(resolve(image, seen, SAMPLES))
    return np.stack(colors), np.stack(maps)


def texture_position(body: Body, textures: Textures) -> np.ndarray:
    """(V, 3): column and row in the textures, and the cosine towards the front camera, of a body
    that lies as the picture shows it.

    Interpolated without regard to perspective; vertices are at most two pixels apart.
    """
    at, _ = bundle_cameras()[0].project(body.vertices, len(textures.back))
    return np.concatenate([at, _facing(body.vertices, body.normals)[:, None]], axis=1)


def _facing(vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(V,) cosines between (V, 3) unit normals and the ways to the front camera."""
    ray = bundle_cameras()[0].center - vertices
    return np.asarray(np.einsum("vc,vc->v", normals, ray) / np.linalg.norm(ray, axis=1))


def front_view(
    picture: np.ndarray,
    cover: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    rasterizer: Rasterizer,
) -> np.ndarray:
    """(S, S, 3) float32: a picture as the front of a body, without the dark line that a drawing has
    round it, if most of that lies where the body turns away. On a ball it would be a broad ring;
    on what is flat, as the frame of a screen, it stays, and so does the line round what is white,
    of which nothing else would be seen.

    picture          (S, S, 3) float32 in [0, 1], on white
    cover            (S, S) float32 in [0, 1]
    vertices, faces  the body's, (V, 3) in frame W and (F, 3)
    """
    clean = without_line_round(picture, cover)
    line = (clean - picture).mean(axis=2) > DARKER
    if not line.any() or np.median(clean[line].min(axis=1)) > WHITE:
        return picture
    seen = look(vertices, faces, bundle_cameras()[0], len(picture), 1, rasterizer)
    facing = _facing(vertices, vertex_normals(vertices, faces))[:, None]
    flat = interpolate(seen, faces, facing)[line & seen.covered, 0] > TURNED
    return picture if flat.size and flat.mean() > 0.5 else clean


def make_views(
    image: np.ndarray,
    alpha: np.ndarray,
    params: InflateParams,
    rasterizer: Rasterizer,
    see: See | None = None,
) -> FourViews:
    """Of (S, S, 3) and (S, S, 1) uint8.

    View 0 is the picture itself (`front_view`), shrunk about its middle where the body would not
    fit into the other views; of what leaned it is a view of the body that has been stood up. `see`
    asks the network for the body's shape. Raises BadInput if alpha is empty.
    """
    picture, cover = to_tile(image, TILE), to_tile(alpha, TILE)
    clean_silhouette(cover, params.grid)  # an empty picture is refused before it is looked at
    seen = None if see is None else see_sheets(see, picture, cover)
    body, scale = inflate_body(picture, cover, params, seen), 1.0
    if seen is not None and params.upright and (degrees := seen.leaning):
        textures = paint(picture, cover, params, seen)
        standing = stood_up(body, degrees)
        shrink = np.float32(fitting_scale(standing.vertices, 0))
        standing = replace(standing, vertices=shrink * standing.vertices)
        views, normals = render_views(
            standing, texture_position(body, textures), textures, rasterizer
        )
        return replace(_four(views, normals, standing), stood=degrees)
    if (fitting := fitting_scale(body.vertices)) < 1.0:
        side = 2 * int(TILE * fitting / 2.0)  # even, so that the middle stays where it is
        scale = side / TILE
        picture, cover = to_tile(image, side, background=1.0), to_tile(alpha, side)
        body = inflate_body(picture, cover, params, seen, scale)
    textures = paint(picture, cover, params, seen, scale)
    views, normals = render_views(body, texture_position(body, textures), textures, rasterizer)
    views[0] = front_view(picture, cover, body.vertices, body.faces, rasterizer)
    return _four(views, normals, body)


def _four(views: np.ndarray, normals: np.ndarray, body: Body) -> FourViews:
    return FourViews(to_bytes(views), to_bytes(normals), Mesh(body.vertices, body.faces))


def to_bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(image * 255.0).astype(np.uint8)


def to_tile(image: np.ndarray, side: int, background: float = 0.0) -> np.ndarray:
    """(S, S, C) uint8 -> a float32 tile in [0, 1] (C = 1: without that axis), the picture `side`
    pixels wide in its middle."""
    method = cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC
    resized = cv2.resize(image.astype(np.float32) / 255.0, (side, side), interpolation=method)
    border = (TILE - side) // 2
    padding = ((border, border), (border, border), (0, 0))[: resized.ndim]
    return np.pad(np.clip(resized, 0.0, 1.0), padding, constant_values=background)
