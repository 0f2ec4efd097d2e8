"""The same box in every format looks the same: each side where it belongs, in its colour."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from devtools.given_meshes import (
    SIDES,
    atlas,
    box,
    box_document,
    box_glb,
    box_mtl,
    box_obj,
    box_ply,
    box_stl,
    encoded,
    glb,
    triangles,
    zipped,
)

AROUND = np.array([SIDES[side][2] for side in ("front", "left", "back", "right")], np.uint8)
GREY = 188
"""sRGB of linear light 0.5."""


def gltf(blob_name: str | None, picture_name: str | None) -> dict[str, bytes]:
    """A .gltf with its data in files of these names, or in itself."""
    document, blob = box_document()
    picture = encoded(atlas())
    kept = blob[: len(blob) - len(picture)]

    def uri(content: bytes, name: str | None) -> str:
        return name or "data:application/octet-stream;base64," + base64.b64encode(content).decode()

    document["buffers"] = [{"byteLength": len(kept), "uri": uri(kept, blob_name)}]
    document["images"] = [{"uri": uri(picture, picture_name)}]
    document["bufferViews"].pop()
    files = {"scene.gltf": json.dumps(document).encode()}
    if blob_name:
        files[blob_name.replace("%20", " ")] = kept
    if picture_name:
        files[picture_name] = picture
    return files


FILES = {
    "glb": box_glb(),
    "ply": box_ply(),
    "ply, as text": box_ply(binary=False),
    "obj": zipped({"box.obj": box_obj(), "box.mtl": box_mtl(), "colors.png": encoded(atlas())}),
    "obj, its files in folders": zipped(
        {
            "a/box.obj": box_obj("mat/box.mtl"),
            "a/mat/box.mtl": box_mtl("-s 1 1 1 ../tex/colors.png"),
            "a/tex/colors.png": encoded(atlas()),
        }
    ),
    "obj, named as on another machine": zipped(
        {
            "box.obj": box_obj(r"C:\Users\me\box.MTL"),
            "box.mtl": box_mtl(r"C:\Users\me\Colors.PNG"),
            "colors.png": encoded(atlas()),
        }
    ),
    "gltf, all in one": gltf(None, None)["scene.gltf"],
    "gltf and files": zipped(gltf("the%20data.bin", "tex.png"), compressed=True),
    "jpeg": box_glb(picture=encoded(atlas(), "jpeg")),
    "webp": box_glb(picture=encoded(atlas(), "webp")),
}


@pytest.mark.parametrize("name", FILES)
def test_the_views_show_the_sides_in_their_colours(name, look):
    looked = look(FILES[name])
    np.testing.assert_allclose(looked.centers().astype(int), AROUND, atol=6)
    assert looked.said == looked.degraded == []


@pytest.mark.parametrize("binary", [True, False])
def test_an_stl_is_grey_and_stands_on_its_z_axis(binary, look):
    looked = look(box_stl(binary, size=(1.0, 1.0, 2.0)), light="even")
    assert np.ptp(looked.mesh.vertices, axis=0) == pytest.approx([0.9, 1.8, 0.9])
    assert (looked.centers() == GREY).all()
    assert looked.said == ["the mesh has no colours: it is taken as grey"]
    upright = look(box_stl(binary, size=(1.0, 2.0, 1.0)), up="+y")
    assert np.ptp(upright.mesh.vertices, axis=0) == pytest.approx([0.9, 1.8, 0.9])


def test_a_mesh_without_colours_is_shaded_so_that_its_shape_shows(look):
    shaded, even = look(box_stl(True)).centers(), look(box_stl(True), light="even").centers()
    assert (shaded < even).all()


def test_a_binary_stl_may_begin_like_one_of_text(look):
    assert len(look(box_stl(header=b"solid facet normal")).mesh.faces) == 12


def test_stl_and_glb_have_their_vertices_joined(look):
    assert len(look(box_stl()).mesh.vertices) == len(look(box_glb()).mesh.vertices) == 8


def test_nodes_carry_their_meshes_and_mirrors_keep_the_outside_outside(look):
    """Twice the box: turned a quarter about y and moved, under a parent that mirrors x."""
    half = float(np.sqrt(0.5))
    document, blob = box_document(
        scenes=[{"nodes": [0]}],
        nodes=[
            {"children": [1, 2], "scale": [-1, 1, 1]},
            {"mesh": 0, "rotation": [0, half, 0, half]},
            {"mesh": 0, "translation": [0, 1, 0], "rotation": [0, half, 0, half]},
        ],
    )
    looked = look(glb(document, blob))
    assert np.ptp(looked.mesh.vertices, axis=0) == pytest.approx([0.9, 1.8, 0.9])
    # Turned, the front looks along +x, and mirrored along -x: what was the right is in front.
    wanted = [SIDES[side][2] for side in ("right", "back", "left", "front")]
    wide = look(glb(document, blob)).tiles[0]
    lower = np.rint(wide[:, 44, 32] * 255.0)
    np.testing.assert_allclose(lower, wanted, atol=2)
    corners = looked.mesh.vertices.astype(float)[looked.mesh.faces]
    volume = np.einsum("fc,fc->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(0.9 * 1.8 * 0.9, rel=1e-3)


def test_a_glb_of_another_writer_is_read(look):
    """trimesh's: a scene of two parts, one textured, one with colours at its vertices."""
    points, quads, uv = box()
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=atlas(), baseColorFactor=[255, 255, 255, 255]
    )
    visual = trimesh.visual.TextureVisuals(uv=uv * (1, -1) + (0, 1), material=material)
    scene = trimesh.Scene()
    scene.add_geometry(
        trimesh.Trimesh(points, triangles(quads), visual=visual, process=False),
        transform=trimesh.transformations.translation_matrix((7, 0, 0)),
    )
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.3)
    ball.visual.vertex_colors = (255, 0, 0, 255)
    scene.add_geometry(ball, transform=trimesh.transformations.translation_matrix((7, 1, 0)))
    looked = look(scene.export(file_type="glb"))
    assert len(looked.mesh.faces) == 12 + len(ball.faces)
    wide = np.rint(looked.tiles[0] * 255.0)
    np.testing.assert_allclose(wide[:, 42, 32], AROUND, atol=3)
    np.testing.assert_allclose(wide[:, 15, 32], np.tile((255, 0, 0), (4, 1)), atol=2)
    assert "given_uv" not in looked.outputs, "the ball has none"


def test_factors_and_corner_colours_are_linear_light(look):
    document, blob = box_document()
    document["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.2, 1, 1]}}]
    looked = look(glb(document, blob))
    assert looked.centers().tolist() == [[188, 124, 255]] * 4
    colors = np.tile(np.array([255, 128, 0, 255], np.uint8), (24, 1)).tobytes()
    document["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(blob), "byteLength": len(colors)}
    )
    document["buffers"][0]["byteLength"] += len(colors)
    document["accessors"].append(
        {"bufferView": 4, "componentType": 5121, "count": 24, "type": "VEC4", "normalized": True}
    )
    document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = 3
    looked = look(glb(document, blob + colors))
    assert looked.centers().tolist() == [[188, 89, 0]] * 4


def test_several_materials_of_an_obj_have_their_own_colours(look):
    obj = b"mtllib m.mtl\n" + b"".join(
        b"v %g %g %g\n" % tuple(point) for point in box()[0].tolist()
    )
    for number, name in enumerate(SIDES):
        first = 4 * number + 1
        obj += b"usemtl %s\nf %d %d %d %d\n" % (name.encode(), *range(first, first + 4))
    mtl = "".join(
        "newmtl {}\nKd {:.6f} {:.6f} {:.6f}\n".format(name, *(np.array(color) / 255.0))
        for name, (_, _, color) in SIDES.items()
    )
    looked = look(zipped({"box.obj": obj, "m.mtl": mtl.encode()}))
    np.testing.assert_allclose(looked.centers().astype(int), AROUND, atol=1)


def test_an_obj_may_have_its_colours_at_the_vertices(look):
    points, quads, _ = box()
    lines = [
        "v {:g} {:g} {:g} {:.4f} {:.4f} {:.4f}".format(*point, *np.array(color) / 255.0)
        for side, (_, _, color) in enumerate(SIDES.values())
        for point in points[4 * side : 4 * side + 4]
    ]
    lines += ["f " + " ".join(str(corner + 1) for corner in quad) for quad in quads]
    looked = look("\n".join(lines).encode())
    np.testing.assert_allclose(looked.centers().astype(int), AROUND, atol=1)


def test_texture_coordinates_may_repeat_and_be_moved(look):
    """The red quarter of a picture of four, by KHR_texture_transform, far outside of [0, 1]."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, 32:] = (255, 0, 0)
    document, blob = box_document(picture=encoded(Image.fromarray(pixels)))
    info = document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
    info["extensions"] = {"KHR_texture_transform": {"offset": [3.55, -5.95], "scale": [0.4, 0.4]}}
    document["extensionsRequired"] = ["KHR_texture_transform"]
    assert look(glb(document, blob)).centers().tolist() == [[255, 0, 0]] * 4


def test_what_lies_behind_a_hole_in_a_texture_is_seen(look):
    """A sheet before the box with a hole in its middle, cut out by alpha."""
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[16:48, 16:48, 3] = 0
    sheet = np.array([(-1, -1, 0.9), (1, -1, 0.9), (1, 1, 0.9), (-1, 1, 0.9)], "<f4")
    uv = np.array([(0, 1), (1, 1), (1, 0), (0, 0)], "<f4")
    picture = encoded(Image.fromarray(pixels))
    document, blob = box_document()
    for part in (sheet.tobytes(), uv.tobytes(), picture):
        blob += b"\0" * (-len(blob) % 4)
        document["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(blob), "byteLength": len(part)}
        )
        blob += part
    document["buffers"][0]["byteLength"] = len(blob)
    document["accessors"] += [
        {"bufferView": 4, "componentType": 5126, "count": 4, "type": "VEC3"},
        {"bufferView": 5, "componentType": 5126, "count": 4, "type": "VEC2"},
    ]
    document["images"].append({"bufferView": 6})
    document["textures"].append({"source": 1})
    document["materials"].append(
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": 1}}, "alphaMode": "MASK"}
    )
    document["meshes"][0]["primitives"].append(
        {"attributes": {"POSITION": 3, "TEXCOORD_0": 4}, "material": 1, "mode": 6}
    )
    looked = look(glb(document, blob))
    red = SIDES["front"][2]
    np.testing.assert_allclose(looked.centers()[0], red, atol=2)
    edge = np.rint(looked.tiles[0][0, 32, 12] * 255.0)
    assert edge.tolist() == [255, 255, 255], "the sheet itself"
    normal = looked.tiles[1][0, 32, 12]
    assert normal[2] > 0.99, "and it is no background"
    document["materials"][1]["alphaMode"] = "OPAQUE"
    assert look(glb(document, blob)).centers()[0].tolist() == [255, 255, 255]


def test_skinned_meshes_stand_as_their_joints_do(look):
    document, blob = box_document(
        nodes=[{"mesh": 0, "skin": 0, "translation": [50, 0, 0]}, {"scale": [1, 3, 1]}],
        scenes=[{"nodes": [0, 1]}],
        skins=[{"joints": [1]}],
    )
    joints = np.zeros((24, 4), np.uint8).tobytes()
    weights = np.tile(np.array([1, 0, 0, 0], "<f4"), (24, 1)).tobytes()
    for part in (joints, weights):
        blob += b"\0" * (-len(blob) % 4)
        document["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(blob), "byteLength": len(part)}
        )
        blob += part
    document["buffers"][0]["byteLength"] = len(blob)
    document["accessors"] += [
        {"bufferView": 4, "componentType": 5121, "count": 24, "type": "VEC4"},
        {"bufferView": 5, "componentType": 5126, "count": 24, "type": "VEC4"},
    ]
    document["meshes"][0]["primitives"][0]["attributes"] |= {"JOINTS_0": 3, "WEIGHTS_0": 4}
    looked = look(glb(document, blob))
    assert np.ptp(looked.mesh.vertices, axis=0) == pytest.approx([0.6, 1.8, 0.6])
