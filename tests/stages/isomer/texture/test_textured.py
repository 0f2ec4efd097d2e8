"""The stage's textured files, as other programs read them."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from devtools.solids import is_closed_solid
from stages.contract import ArtifactSpec, Mesh
from stages.contract.artifacts import FULL_MESH, GLB, NORMAL_MAP, OBJ, OBJ_MATERIAL, TEXTURE
from stages.contract.user_files import read_any
from stages.geometry.bundle import split
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import look
from stages.isomer.projection import sample

FILES = (GLB, OBJ, OBJ_MATERIAL, TEXTURE, NORMAL_MAP, FULL_MESH)
VALIDATE = """
const {validateBytes} = require('gltf-validator');
validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))
    .then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.fixture(scope="module")
def folder(textured: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files beside each other under their names, as in a result folder."""
    path = tmp_path_factory.mktemp("textured")
    for spec in FILES:
        (path / spec.filename).write_bytes(textured[spec.name])
    return path


def loaded(path: Path) -> tuple[trimesh.Trimesh, np.ndarray]:
    """What trimesh makes of a file without options, and its texture (S, S, 3) in [0, 1]."""
    mesh = trimesh.load(path, force="mesh", process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    assert mesh.visual.kind == "texture"
    material = mesh.visual.material
    picture = getattr(material, "baseColorTexture", None) or material.image
    return mesh, np.asarray(picture.convert("RGB")) / 255.0


def looked_up(mesh: trimesh.Trimesh, texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(N, 3) bilinear colours at (N, 2) coordinates; trimesh's v points up."""
    at = np.stack([uv[:, 0] * texture.shape[1], (1.0 - uv[:, 1]) * texture.shape[0]], axis=1)
    return sample(texture, at)


@pytest.mark.parametrize("name", ["mesh.glb", "mesh.obj"])
def test_trimesh_shows_the_texture(folder: Path, name: str) -> None:
    mesh, texture = loaded(folder / name)
    assert len(mesh.faces) <= 2000
    assert texture.shape == (1024, 1024, 3)
    uv = np.asarray(mesh.visual.uv)
    assert uv.shape == (len(mesh.vertices), 2)
    assert uv.min() >= 0.0
    assert uv.max() <= 1.0
    assert np.ptp(uv, axis=0).min() > 0.5


@pytest.mark.parametrize("name", ["mesh.glb", "mesh.obj"])
def test_the_texture_shows_what_the_views_show(
    folder: Path, painted_bundle: np.ndarray, name: str
) -> None:
    """Seen from each camera, pixel by pixel, where it faces the surface."""
    mesh, texture = loaded(folder / name)
    tiles = split(painted_bundle)[0]
    for camera, tile in zip(bundle_cameras(), tiles, strict=True):
        seen = look(mesh.vertices, mesh.faces, camera, len(tile), 1, open_rasterizer("cpu"))
        normals = interpolate(seen, mesh.faces, np.asarray(mesh.vertices) / 0.8)
        facing = seen.covered & (normals @ camera.axes[:, 2] > 0.75)
        assert facing.sum() > 3000
        uv = interpolate(seen, mesh.faces, np.asarray(mesh.visual.uv))[facing]
        error = np.abs(looked_up(mesh, texture, uv) - tile[facing])
        assert error.mean() < 0.01
        assert np.percentile(error, 99) < 0.06


def test_vertex_colours_of_as_many_faces_are_further_off(
    folder: Path, painted_bundle: np.ndarray
) -> None:
    """That the limits above ask for a texture."""
    mesh, texture = loaded(folder / "mesh.glb")
    at_vertices = looked_up(mesh, texture, np.asarray(mesh.visual.uv))
    camera, tile = bundle_cameras()[0], split(painted_bundle)[0][0]
    seen = look(mesh.vertices, mesh.faces, camera, len(tile), 1, open_rasterizer("cpu"))
    normals = interpolate(seen, mesh.faces, np.asarray(mesh.vertices) / 0.8)
    facing = seen.covered & (normals @ camera.axes[:, 2] > 0.75)
    error = np.abs(interpolate(seen, mesh.faces, at_vertices)[facing] - tile[facing])
    assert error.mean() > 0.03


def test_a_look_up_between_two_charts_finds_no_foreign_colour(folder: Path) -> None:
    """At the ends of an edge that is a seam, and between them, both sides have like colours, also
    in the texture at a quarter of its size."""
    mesh, texture = loaded(folder / "mesh.glb")
    small = texture.reshape(256, 4, 256, 4, 3).mean(axis=(1, 3))
    _, whole = np.unique(mesh.vertices, axis=0, return_inverse=True)
    sides = np.stack([mesh.faces, np.roll(mesh.faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    key = np.sort(whole.reshape(-1)[sides], axis=1)
    order = np.lexsort(key.T)
    twins = order.reshape(-1, 2)  # closed: every edge has two sides
    assert (key[twins[:, 0]] == key[twins[:, 1]]).all()
    one, two = sides[twins[:, 0]], sides[twins[:, 1]][:, ::-1]  # they run opposite ways
    seam = (one != two).any(axis=1)
    assert seam.sum() > 100
    uv = np.asarray(mesh.visual.uv)
    for picture, limit in ((texture, 0.06), (small, 0.12)):
        for share in (0.0, 0.3, 0.5):
            here, there = (
                looked_up(mesh, picture, uv[e[seam, 0]] * (1 - share) + uv[e[seam, 1]] * share)
                for e in (one, two)
            )
            assert np.percentile(np.abs(here - there), 95) < limit


def test_read_as_an_input_the_surface_is_whole_and_coloured(
    folder: Path, textured: dict[str, Any]
) -> None:
    spec = ArtifactSpec("mesh", "mesh", "a mesh")
    for name in ("mesh.glb", "mesh.obj"):
        mesh: Mesh = read_any(spec, folder / name)
        assert is_closed_solid(mesh)
        assert mesh.colors is not None
        assert np.ptp(mesh.colors.astype(int), axis=0).min() > 100
    (folder / "alone").mkdir()
    shutil.copy(folder / "mesh.obj", folder / "alone")
    assert is_closed_solid(read_any(spec, folder / "alone" / "mesh.obj")), "without its material"
    full = read_any(spec, folder / "mesh_full.ply")
    np.testing.assert_array_equal(full.faces, textured["mesh"].faces)
    np.testing.assert_array_equal(full.vertices, textured["mesh"].vertices)
    np.testing.assert_array_equal(full.colors, textured["mesh"].colors)


def chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def test_the_glb_has_a_rough_material_that_is_no_metal_and_its_pictures(
    textured: dict[str, Any],
) -> None:
    document, blob = chunks(textured["glb"])
    (material,) = document["materials"]
    surface = material["pbrMetallicRoughness"]
    assert surface["metallicFactor"] == 0.0
    assert surface["roughnessFactor"] == 0.8
    assert document["samplers"][0]["minFilter"] == 9987  # linear between mip-maps
    for texture, name in (
        (surface["baseColorTexture"], "texture"),
        (material["normalTexture"], "normal_map"),
    ):
        image = document["images"][document["textures"][texture["index"]]["source"]]
        view = document["bufferViews"][image["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        end = view["byteOffset"] + view["byteLength"]
        assert blob[view["byteOffset"] : end] == textured[name]


def test_glb_and_obj_have_the_same_texture_coordinates(folder: Path) -> None:
    glb, _ = loaded(folder / "mesh.glb")
    obj, _ = loaded(folder / "mesh.obj")
    for mine, other in ((glb.vertices, obj.vertices), (glb.visual.uv, obj.visual.uv)):
        corners, others = np.asarray(mine)[glb.faces], np.asarray(other)[obj.faces]
        np.testing.assert_allclose(corners, others, atol=2e-6)


def test_the_references_axes_turn_the_textured_mesh_too(make: Any) -> None:
    outputs, _ = make(axes="reference", texture_faces=500, normal_map=True)
    turned = trimesh.load(io.BytesIO(outputs["glb"]), file_type="glb", force="mesh")
    assert isinstance(turned, trimesh.Trimesh)
    document, blob = chunks(outputs["glb"])
    names = document["meshes"][0]["primitives"][0]["attributes"]

    def array(name: str, width: int) -> np.ndarray:
        accessor = document["accessors"][names[name]]
        start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        values = np.frombuffer(blob, "<f4", accessor["count"] * width, start)
        return values.reshape(-1, width)

    normals, along = array("NORMAL", 3), array("TANGENT", 4)
    assert np.einsum("vc,vc->v", normals, array("POSITION", 3) / 0.8).min() > 0.9
    np.testing.assert_allclose(np.einsum("vc,vc->v", normals, along[:, :3]), 0.0, atol=1e-5)
    assert (along[:, 3] == 1.0).all()


def test_without_a_texture_the_files_are_of_the_fine_mesh_with_vertex_colours(make: Any) -> None:
    outputs, told = make(texture="none")
    assert not told
    assert not {"texture", "obj_material", "normal_map", "full_mesh"} & set(outputs)
    mesh = trimesh.load(io.BytesIO(outputs["glb"]), file_type="glb", force="mesh", process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    assert mesh.visual.kind == "vertex"
    assert len(mesh.faces) == len(outputs["mesh"].faces)


def test_a_mesh_that_cannot_be_unwrapped_keeps_its_vertex_colours_and_is_called_degraded(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.isomer.texture.packing.LEAST_SCALE", 2.0)
    outputs, told = make()
    assert len(told) == 1
    assert told[0].startswith("no texture, but colours at the vertices: ")
    document, _ = chunks(outputs["glb"])
    assert "COLOR_0" in document["meshes"][0]["primitives"][0]["attributes"]
    assert "obj_material" not in outputs


@pytest.mark.parametrize("most", [500, None])
def test_the_textured_mesh_has_as_many_faces_as_asked_for(make: Any, most: int | None) -> None:
    outputs, _ = make(texture_faces=most, target_faces=6000)
    mesh = trimesh.load(io.BytesIO(outputs["glb"]), file_type="glb", force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    fine = len(outputs["mesh"].faces)
    assert len(mesh.faces) == fine if most is None else 0.9 * most < len(mesh.faces) <= most < fine


def test_the_same_inputs_give_the_same_bytes(make: Any) -> None:
    one, two = make(texture_faces=500)[0], make(texture_faces=500)[0]
    for name in ("glb", "obj", "texture"):
        assert one[name] == two[name]


def test_the_glb_is_valid_by_the_gltf_validator(folder: Path) -> None:
    """Needs node and its package gltf-validator (NODE_PATH says where)."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    done = subprocess.run(
        [node, "-e", VALIDATE, str(folder / "mesh.glb")], capture_output=True, text=True
    )
    if "Cannot find module 'gltf-validator'" in done.stderr:
        pytest.skip("node has no package gltf-validator")
    assert done.returncode == 0, done.stderr
    issues = json.loads(done.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues


def test_the_picture_of_the_texture_is_plain_rgb(textured: dict[str, Any]) -> None:
    with Image.open(io.BytesIO(textured["texture"])) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (1024, 1024))
