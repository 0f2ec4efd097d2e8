"""A given mesh takes a bundle's colours; its shape and its texture coordinates stay as they are."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from devtools.given_meshes import CELL, SIDES, box, box_glb, triangles
from stages.contract import BadInput, Context, Mesh
from stages.isomer.retexture import Retexture, RetextureParams
from stages.isomer.texture import given as given_texture
from stages.mesh_views.params import MeshViewsParams
from stages.mesh_views.stage import MeshViews

SIZE = 1024


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What mesh_views makes of the box with a colour on each side."""
    stage = MeshViews(MeshViewsParams(size=256))
    stage.load(Context(threads=2))
    return dict(stage.run({"input_mesh": box_glb()}, Context(threads=2)))


@dataclass(frozen=True)
class Painted:
    outputs: dict[str, Any]
    said: list[str]
    degraded: list[str]

    @property
    def glb(self) -> trimesh.Trimesh:
        loaded: Any = trimesh.load(
            io.BytesIO(self.outputs["glb"]), file_type="glb", force="mesh", process=False
        )
        return loaded

    @property
    def texture(self) -> np.ndarray:
        with Image.open(io.BytesIO(self.outputs["texture"])) as picture:
            return np.asarray(picture.convert("RGB"))


def painted(
    bundle: np.ndarray,
    mesh: Mesh,
    uv: np.ndarray | None,
    came_from: np.ndarray | None = None,
    **params: Any,
) -> Painted:
    stage = Retexture(
        RetextureParams.model_validate(
            {"texture_size": SIZE, "color_faces": 20_000, "render_size": 64, **params}
        )
    )
    said: list[str] = []
    degraded: list[str] = []

    def warn(text: str, **flags: bool) -> None:
        (degraded if flags.get("degraded") else said).append(text)

    context = Context(threads=2, warn=warn)
    stage.load(context)
    inputs: dict[str, Any] = {"bundle": bundle, "given_mesh": mesh}
    if came_from is not None:
        inputs["given_place"] = came_from
    outputs = dict(stage.run(inputs if uv is None else {**inputs, "given_uv": uv}, context))
    for spec in stage.outputs:
        if spec.name in outputs:
            spec.check(outputs[spec.name])
        else:
            assert spec.optional
    return Painted(outputs, said, degraded)


def corners_of(mesh: Any) -> np.ndarray:
    """(F, 9) of a mesh's faces, in any order of faces and any first corner."""
    corners = np.asarray(mesh.vertices, np.float64)[np.asarray(mesh.faces)].round(5)
    turned = [np.roll(corners, -k, axis=1).reshape(-1, 9) for k in range(3)]
    least = np.array([min(map(tuple, rows)) for rows in zip(*turned, strict=True)])
    return least[np.lexsort(least.T)]


def folded(uv: np.ndarray) -> np.ndarray:
    """Coordinates whose lower half lies on the upper one, mirrored."""
    return np.stack([uv[..., 0], np.minimum(uv[..., 1], 1.0 - uv[..., 1])], axis=-1)


def assert_same_shape(found: Any, mesh: Mesh) -> None:
    assert len(found.faces) == len(mesh.faces)
    np.testing.assert_allclose(corners_of(found), corners_of(mesh), atol=2e-5)


def test_shape_and_texture_coordinates_are_kept_and_colours_are_the_bundles(seen):
    """The same box with the bundle's colours turned round: red and blue channels swapped."""
    mesh, uv = seen["given_mesh"], seen["given_uv"]
    bundle = seen["reference_bundle"].copy()
    upper = len(bundle) // 2
    bundle[:upper] = bundle[:upper, :, ::-1]
    found = painted(bundle, mesh, uv)
    assert found.said == found.degraded == []
    assert_same_shape(found.glb, mesh)
    corners = np.asarray(found.glb.visual.uv)[np.asarray(found.glb.faces)]
    np.testing.assert_allclose(corners, uv * (1, -1) + (0, 1), atol=1e-6)
    texture = found.texture
    for number, (side, (_, _, color)) in enumerate(SIDES.items()):
        row, column = divmod(number, 3)
        middle = texture[SIZE * (2 * row + 1) // 4, SIZE * (2 * column + 1) // 6]
        if side not in ("top", "bottom"):
            # 1 at most; a side's neighbour differs by 100 and more in some channel.
            np.testing.assert_allclose(middle, color[::-1], atol=12, err_msg=side)
    assert texture.max() < 250, "no white has come from the background"


def test_what_no_view_sees_takes_colours_from_beside_it(seen):
    texture = painted(seen["reference_bundle"], seen["given_mesh"], seen["given_uv"]).texture
    bottom = texture[SIZE // 2 + 8 : -8, 2 * SIZE // 3 + 8 : -8]
    front, left = (np.array(SIDES[side][2]) for side in ("front", "left"))
    np.testing.assert_allclose(bottom[4, bottom.shape[1] // 2], front, atol=40)
    np.testing.assert_allclose(bottom[bottom.shape[0] // 2, -4], left, atol=40)


def test_the_fine_mesh_has_the_same_surface(seen):
    mesh: Mesh = painted(seen["reference_bundle"], seen["given_mesh"], None).outputs["mesh"]
    assert 5_000 < len(mesh.faces) <= 20_000
    assert np.abs(mesh.vertices).max() == pytest.approx(0.9, abs=1e-5)
    inner = np.abs(mesh.vertices).max(axis=1)
    np.testing.assert_allclose(inner, 0.9, atol=1e-5)
    loaded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert loaded.is_watertight, "seams are joined"


def test_without_coordinates_of_its_own_a_mesh_is_laid_flat(seen):
    found = painted(seen["reference_bundle"], seen["given_mesh"], None)
    assert found.said == found.degraded == []
    assert_same_shape(found.glb, seen["given_mesh"])
    assert found.glb.visual.kind == "texture"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda uv: uv * 2.5, "repeat their texture"),
        (folded, "share their place"),
        (lambda uv: uv * 0.0 + 0.5, "no room"),
    ],
)
def test_coordinates_that_cannot_take_colours_are_replaced_and_told(change, told, seen):
    uv = change(seen["given_uv"]).astype(np.float32)
    found = painted(seen["reference_bundle"], seen["given_mesh"], uv)
    assert [told in text for text in found.said] == [True]
    assert_same_shape(found.glb, seen["given_mesh"])


def test_new_coordinates_can_be_asked_for(seen):
    found = painted(seen["reference_bundle"], seen["given_mesh"], seen["given_uv"], layout="new")
    assert found.said == []
    corners = np.asarray(found.glb.visual.uv)[np.asarray(found.glb.faces)]
    assert np.abs(corners - (seen["given_uv"] * (1, -1) + (0, 1))).max() > 0.05


def test_a_mesh_that_cannot_be_laid_flat_has_colours_at_its_vertices(seen, monkeypatch):
    monkeypatch.setattr(given_texture, "MOST_UNWRAPPED", 10)
    found = painted(seen["reference_bundle"], seen["given_mesh"], None)
    assert "colours at the vertices" in found.degraded[0]
    assert "texture" not in found.outputs
    assert found.glb.visual.kind == "vertex"


def test_a_blank_bundle_is_refused(seen):
    with pytest.raises(BadInput, match="blank"):
        painted(np.ones_like(seen["reference_bundle"]), seen["given_mesh"], None)


def test_one_texel_in_a_hundred_may_be_shared():
    """Rounding lets neighbours touch; halves on top of each other are another thing."""
    points, quads, uv = box()
    faces = triangles(quads)
    mesh = Mesh(points.astype(np.float32), faces.astype(np.int32))
    assert given_texture.why_not(uv[faces], mesh, 16 * CELL, 1) == ""
    assert "share" in given_texture.why_not(folded(uv)[faces], mesh, 16 * CELL, 1)


def test_files_have_the_given_meshs_own_size_and_place(seen):
    place = np.array([5.0, -3.0, 100.0, 0.25])
    bundle, mesh, uv = (seen[name] for name in ("reference_bundle", "given_mesh", "given_uv"))
    moved = painted(bundle, mesh, uv, place).glb.bounds
    np.testing.assert_allclose(moved.mean(axis=0), place[:3], atol=1e-4)
    np.testing.assert_allclose(moved[1] - moved[0], np.ptp(mesh.vertices, axis=0) * 4.0, atol=1e-4)
    still = painted(bundle, mesh, uv, place, place="bundle").glb.bounds
    np.testing.assert_allclose(still.mean(axis=0), 0.0, atol=1e-4)


def test_mesh_views_says_where_the_mesh_was(seen):
    middle, scale = seen["given_place"][:3], seen["given_place"][3]
    assert np.ptp(seen["given_mesh"].vertices, axis=0).max() == pytest.approx(1.8, abs=1e-4)
    loaded: Any = trimesh.load(io.BytesIO(box_glb()), file_type="glb", force="mesh")
    np.testing.assert_allclose(loaded.bounds.mean(axis=0), middle, atol=1e-4)
    assert np.ptp(loaded.bounds, axis=0).max() * scale == pytest.approx(1.8, abs=1e-4)
