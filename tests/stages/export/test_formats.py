"""Every format as other programs read it: trimesh, lib3mf, the glTF validator, usd-core."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from devtools.painted import colored, painted_ball, plain, written
from stages.contract import BadInput
from stages.contract.mesh_formats import FORMATS
from stages.export.model import Model
from stages.export.write import Wanted, files_of

HEIGHT = 0.08
MILLIMETRES = 80.0


def an_egg() -> Model:
    """Higher than wide, and with a nose towards +z."""
    ball = painted_ball()
    points = ball.vertices * (0.6, 1.0, 0.5)
    nose = points[:, 2] > 0.42
    points[nose, 2] += 0.3
    return Model(points, ball.faces, uv=ball.uv, color_png=ball.color_png)


@pytest.fixture(scope="module")
def egg() -> Model:
    return an_egg()


def whole(path):
    """As a printing program reads it: vertices of one place are one."""
    shape = trimesh.load(path, force="mesh", process=False)
    shape.merge_vertices(merge_tex=True, merge_norm=True)
    return shape


@pytest.mark.parametrize("name", ["stl", "3mf"])
@pytest.mark.parametrize("kind", [lambda model: model, colored, plain], ids=["uv", "rgb", "plain"])
def test_what_is_for_printing_is_a_solid_of_that_height_that_stands(egg, name, kind, tmp_path):
    if name == "3mf":
        pytest.importorskip("lxml")
    shape = whole(written(kind(egg), name, tmp_path, height=HEIGHT))
    assert shape.is_watertight
    assert shape.is_winding_consistent
    assert shape.volume > 0
    low, high = shape.bounds
    assert low == pytest.approx(np.zeros(3), abs=1e-4)
    assert high[2] == pytest.approx(MILLIMETRES, rel=1e-5)
    assert max(high[:2]) < MILLIMETRES
    # The nose, which looked towards +z, looks at the user: towards -y.
    tip = shape.vertices[shape.vertices[:, 1] < 0.05 * high[1]]
    assert np.abs(tip[:, 0] - high[0] / 2).max() < 0.25 * high[0]


def test_y_up_keeps_y_up(egg, tmp_path):
    shape = whole(written(egg, "stl", tmp_path, height=HEIGHT, y_up=True))
    assert shape.is_watertight
    assert shape.bounds[1][1] == pytest.approx(MILLIMETRES, rel=1e-5)
    assert shape.bounds[0] == pytest.approx(np.zeros(3), abs=1e-4)


def test_without_a_height_prints_are_100_mm_high_and_others_as_they_are(egg, tmp_path):
    assert whole(written(egg, "stl", tmp_path)).bounds[1][2] == pytest.approx(100.0, rel=1e-5)
    for name in ("glb", "obj", "ply"):
        shape = whole(written(egg, name, tmp_path))
        assert shape.extents == pytest.approx(egg.size, rel=1e-4)


def test_what_comes_out_longer_than_printers_print_is_told_with_the_height_that_fits(egg):
    lying = replace(egg, vertices=egg.vertices * (50.0, 1.0, 1.0))
    [told] = files_of(lying, None, Wanted(("stl", "3mf"), "egg"))[1]
    assert told == "100 mm high it is about 3000 mm long: --height 3.3mm makes that 100 mm"
    assert files_of(lying, None, Wanted(("stl",), "egg", height=HEIGHT))[1] == [], "as was asked"
    assert files_of(lying, None, Wanted(("glb",), "egg"))[1] == []
    assert files_of(egg, None, Wanted(("stl",), "egg"))[1] == []


@pytest.mark.parametrize(("name", "tall"), [("glb", HEIGHT), ("obj", 80.0), ("ply", 80.0)])
def test_a_height_is_in_the_unit_of_the_format(egg, name, tall, tmp_path):
    shape = whole(written(egg, name, tmp_path, height=HEIGHT))
    assert shape.extents[1] == pytest.approx(tall, rel=1e-4)
    assert shape.is_watertight


@pytest.mark.parametrize("kind", [lambda model: model, colored, plain], ids=["uv", "rgb", "plain"])
def test_lib3mf_reads_the_3mf_without_a_warning(egg, kind, tmp_path):
    lib3mf = pytest.importorskip("lib3mf", reason="lib3mf has no wheel for this platform")
    path = written(kind(egg), "3mf", tmp_path, height=HEIGHT)
    model = lib3mf.Wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert [reader.GetWarning(number) for number in range(reader.GetWarningCount())] == []
    assert model.GetUnit() == lib3mf.ModelUnit.MilliMeter
    meshes = model.GetMeshObjects()
    assert meshes.MoveNext()
    mesh = meshes.GetCurrentMeshObject()
    assert mesh.GetTriangleCount() == len(egg.faces)
    assert mesh.IsManifoldAndOriented()
    textures, groups = model.GetTexture2Ds(), model.GetColorGroups()
    assert textures.Count() == (kind(egg).uv is not None)
    assert groups.Count() == (kind(egg).colors is not None)
    if textures.Count():
        assert textures.MoveNext()
        buffer = bytes(textures.GetCurrentTexture2D().GetAttachment().WriteToBuffer())
        assert buffer == egg.color_png


def test_lib3mf_finds_the_texture_the_right_way_up(egg, tmp_path):
    lib3mf = pytest.importorskip("lib3mf", reason="lib3mf has no wheel for this platform")
    model = lib3mf.Wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.ReadFromFile(str(written(egg, "3mf", tmp_path)))
    meshes, groups = model.GetMeshObjects(), model.GetTexture2DGroups()
    assert meshes.MoveNext()
    assert groups.MoveNext()
    mesh, group = meshes.GetCurrentMeshObject(), groups.GetCurrentTexture2DGroup()
    heights = np.array([vertex.Coordinates[2] for vertex in mesh.GetVertices()])
    for number in range(0, mesh.GetTriangleCount(), 97):
        corner = mesh.GetTriangle(number).Indices[0]
        pair = group.GetTex2Coord(mesh.GetTriangleProperties(number).PropertyIDs[0])
        if abs(heights[corner] - 50.0) > 2.0:
            assert (pair.V > 0.5) == (heights[corner] > 50.0), "v grows upwards in 3MF"


@pytest.mark.parametrize("kind", [lambda model: model, colored, plain], ids=["uv", "rgb", "plain"])
def test_the_gltf_validator_finds_nothing_wrong(egg, kind, tmp_path):
    path = written(kind(egg), "glb", tmp_path, height=HEIGHT, faces=1000)
    node = shutil.which("node")
    there = "require.resolve('gltf-validator')"
    if node is None or subprocess.run([node, "-e", there], capture_output=True).returncode:
        pytest.skip("node has no package gltf-validator")
    program = (
        "require('gltf-validator').validateBytes(new Uint8Array(require('fs').readFileSync("
        "process.argv[1]))).then(r => console.log(JSON.stringify(r.issues)))"
    )
    told = subprocess.run([node, "-e", program, str(path)], capture_output=True, check=True)
    issues = json.loads(told.stdout)
    assert issues["numErrors"] == 0, issues["messages"]
    assert issues["numWarnings"] == 0, issues["messages"]


@pytest.mark.parametrize("kind", [lambda model: model, colored, plain], ids=["uv", "rgb", "plain"])
def test_usd_reads_the_usdz(egg, kind, tmp_path):
    pytest.importorskip("pxr", reason="usd-core (the extra usd) is not installed")
    from importlib import import_module

    usd, geometry, shade = (import_module(f"pxr.{name}") for name in ("Usd", "UsdGeom", "UsdShade"))
    stage = usd.Stage.Open(str(written(kind(egg), "usdz", tmp_path, height=HEIGHT)))
    assert geometry.GetStageUpAxis(stage) == "Y"
    assert geometry.GetStageMetersPerUnit(stage) == 1.0
    mesh = geometry.Mesh(stage.GetPrimAtPath("/object/mesh"))
    points = np.array(mesh.GetPointsAttr().Get())
    assert np.ptp(points[:, 1]) == pytest.approx(HEIGHT, rel=1e-5)
    faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    assert len(faces) == len(egg.faces)
    assert trimesh.Trimesh(points, faces).volume > 0
    assert shade.MaterialBindingAPI(mesh).GetDirectBinding().GetMaterial()
    if kind(egg).uv is not None:
        texture = shade.Shader(stage.GetPrimAtPath("/object/material/texture"))
        file = texture.GetInput("file").Get()
        assert file.resolvedPath, "the package holds the picture that it names"
    else:
        shown = mesh.GetDisplayColorPrimvar().Get()
        assert (shown is not None) == (kind(egg).colors is not None)


def test_files_are_the_same_each_time(egg):
    made = [files_of(egg, None, Wanted(["stl", "3mf", "glb", "obj", "ply"], "m")) for _ in "12"]
    first, second = ({file.name: file.content for file in files} for files, _ in made)
    assert first == second


def test_formats_without_a_texture_take_the_fine_mesh(egg):
    fine = colored(painted_ball(5))
    files, _ = files_of(egg, fine, Wanted(list(FORMATS)[:5], "m"))
    faces = {file.format: file.faces for file in files if file.faces}
    coarse = len(egg.faces)
    assert faces == {
        "glb": coarse,
        "obj": coarse,
        "ply": 4 * coarse,
        "stl": 4 * coarse,
        "3mf": coarse,
    }


def test_the_obj_names_the_files_beside_it(egg, tmp_path):
    files, _ = files_of(egg, None, Wanted(["obj"], "my-egg"))
    assert [file.name for file in files] == ["my-egg.obj", "my-egg.mtl", "my-egg_color.png"]
    for file in files:
        (tmp_path / file.name).write_bytes(file.content)
    shape = trimesh.load(tmp_path / "my-egg.obj", force="mesh")
    assert shape.visual.material.image.size == (256, 256)


def test_a_mesh_without_height_has_none_to_scale():
    points = np.array([(0, 0, 0), (1, 0, 0), (0, 0, 1)], float)
    sheet = Model(points, np.array([(0, 1, 2)], np.int32))
    with pytest.raises(BadInput, match="flat along y"):
        files_of(sheet, None, Wanted(["obj"], "m", height=0.1))
    assert files_of(sheet, None, Wanted(["obj"], "m"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glb", "obj", "ply", "stl"])
def test_blender_imports_it(egg, name, tmp_path):
    bpy = pytest.importorskip("bpy", reason="Blender's module bpy is not installed")
    path = str(written(egg, name, tmp_path, height=HEIGHT))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    load = {
        "glb": bpy.ops.import_scene.gltf,
        "obj": bpy.ops.wm.obj_import,
        "ply": bpy.ops.wm.ply_import,
        "stl": bpy.ops.wm.stl_import,
    }
    load[name](filepath=path)
    [shape] = [one for one in bpy.context.scene.objects if one.type == "MESH"]
    assert len(shape.data.polygons) == len(egg.faces)
    unit = 1.0 if name == "glb" else 1000.0
    assert shape.dimensions[1 if name == "ply" else 2] == pytest.approx(HEIGHT * unit, rel=1e-3)


def test_png_in_the_3mf_is_a_picture(egg, tmp_path):
    import zipfile

    from PIL import Image

    with zipfile.ZipFile(written(egg, "3mf", tmp_path)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "[Content_Types].xml"
        picture = Image.open(io.BytesIO(archive.read("3D/Textures/color.png")))
        assert picture.size == (256, 256)
