"""The stage as a whole: a coloured shape comes back with its colours, bad jobs fail by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contract import BadInput, Context, Mesh, StageError
from stages.geometry.bundle import join, split
from stages.geometry.camera_rig import RADIUS
from stages.geometry.cameras import bundle_cameras, decode_normals
from stages.geometry.masks import foreground
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import look, normal_tile, resolve, vertex_normals
from stages.isomer.check import disagreement
from stages.isomer.params import IsomerParams
from stages.isomer.stage import Isomer

ROOT = Path(__file__).resolve().parents[3]
SIZE = 256


def blob() -> Mesh:
    """An egg on a grid of 64 x 128 patches, red where x > 0, blue elsewhere, greener upwards."""
    rows, columns = 64, 128
    polar = np.linspace(0.02, np.pi - 0.02, rows)
    around = np.arange(columns) * 2 * np.pi / columns
    t, a = np.meshgrid(polar, around, indexing="ij")
    x, y, z = 0.6 * np.sin(t) * np.sin(a), 0.8 * np.cos(t), 0.7 * np.sin(t) * np.cos(a)
    ring = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    vertices = np.concatenate([ring, [(0, 0.8, 0), (0, -0.8, 0)]]).astype(np.float32)
    index = np.arange(rows * columns).reshape(rows, columns)
    a_, b_ = index[:-1], index[1:]
    c_, d_ = np.roll(b_, -1, axis=1), np.roll(a_, -1, axis=1)
    top, bottom = rows * columns, rows * columns + 1
    first, last = index[0], index[-1]
    parts = [(a_, b_, c_), (a_, c_, d_)]
    faces = [np.stack(part, -1).reshape(-1, 3) for part in parts]
    faces.append(np.stack([np.full(columns, top), first, np.roll(first, -1)], 1))
    faces.append(np.stack([np.full(columns, bottom), np.roll(last, -1), last], 1))
    return Mesh(vertices, np.concatenate(faces).astype(np.int32), paint(vertices))


def paint(points: np.ndarray) -> np.ndarray:
    """The true colour of a point of the egg, (N, 3) uint8."""
    right = 1 / (1 + np.exp(-points[:, 0] / 0.05))
    colors = np.stack([30 + 190 * right, 90 + 80 * points[:, 1], 220 - 190 * right], axis=1)
    return np.rint(colors).astype(np.uint8)


def render_bundle(mesh: Mesh) -> np.ndarray:
    assert mesh.colors is not None
    rasterizer = open_rasterizer("cpu")
    normals = vertex_normals(mesh.vertices, mesh.faces)
    rgb, normal = [], []
    for camera in bundle_cameras():
        fragments = look(mesh.vertices, mesh.faces, camera, SIZE, 2, rasterizer)
        image = interpolate(fragments, mesh.faces, mesh.colors / 255.0)
        rgb.append(resolve(image, fragments, 2))
        normal.append(normal_tile(fragments, mesh.faces, normals, camera, 2))
    return join(np.stack(rgb), np.stack(normal)).astype(np.float32)


@pytest.fixture(scope="module")
def egg() -> Mesh:
    return blob()


@pytest.fixture(scope="module")
def bundle(egg: Mesh) -> np.ndarray:
    return render_bundle(egg)


def run(bundle: np.ndarray, mesh: Mesh, threads: int = 2, **params: Any) -> dict[str, Any]:
    stage = Isomer(
        IsomerParams(
            **{
                "raster_size": 512,
                "render_size": 96,
                "stage2_steps": 0,
                "texture_size": 1024,
                **params,
            }
        )
    )
    context = Context(threads=threads)
    stage.load(context)
    outputs = dict(stage.run({"bundle": bundle, "coarse_mesh": mesh}, context))
    stage.close()
    return outputs


@pytest.fixture(scope="module")
def outputs(bundle: np.ndarray, egg: Mesh) -> dict[str, Any]:
    return run(bundle, Mesh(egg.vertices, egg.faces), target_faces=30_000)


def test_outputs_keep_the_promises_of_the_contract(outputs: dict[str, Any]) -> None:
    assert set(outputs) == {spec.name for spec in Isomer.outputs} - {"normal_map"}
    for spec in Isomer.outputs:
        if spec.name in outputs:
            spec.check(outputs[spec.name])


def test_the_mesh_grows_to_the_face_limit_and_keeps_its_shape(outputs: dict[str, Any]) -> None:
    mesh = outputs["mesh"]
    assert 29_990 <= len(mesh.faces) <= 30_000
    scaled = mesh.vertices / (0.6, 0.8, 0.7)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1.0, atol=0.02)


def test_nothing_depends_on_the_number_of_threads(bundle: np.ndarray, egg: Mesh) -> None:
    """But for torch's own sums, and of three threads torch gets one."""
    slim = Mesh(egg.vertices * np.float32((0.75, 1.0, 1.0)), egg.faces)
    few = {"target_faces": 4000, "raster_size": 256, "stage2_steps": 3, "start": "fused"}
    one, three = (run(bundle, slim, threads, **few) for threads in (1, 3))
    for name in set(one) - {"mesh", "renders"}:
        assert one[name] == three[name], name
    np.testing.assert_array_equal(one["mesh"].vertices, three["mesh"].vertices)
    np.testing.assert_array_equal(one["mesh"].colors, three["mesh"].colors)
    np.testing.assert_array_equal(one["renders"], three["renders"])


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("objective", ["improved", "reference"])
def test_the_final_mesh_has_no_more_faces_than_asked_for(
    bundle: np.ndarray, egg: Mesh, steps: int, objective: str
) -> None:
    few = {"target_faces": 4000, "texture": "none"}
    mesh = run(bundle, egg, **few, stage2_steps=steps, objective=objective)["mesh"]
    assert 3000 < len(mesh.faces) <= 4000 < len(egg.faces)
    scaled = mesh.vertices / (0.6, 0.8, 0.7)
    assert np.abs(np.linalg.norm(scaled, axis=1) - 1.0).mean() < 0.01


def test_what_agrees_with_its_views_is_not_refined(bundle: np.ndarray, egg: Mesh) -> None:
    """The egg itself is off by half a degree, a slimmer one by ten."""
    few = {"target_faces": 4000, "texture": "none"}
    kept, still = (
        run(bundle, egg, **few, **steps)["mesh"]
        for steps in ({"stage2_steps": 3, "refine_above": 4.0, "smooth": True}, {"smooth": True})
    )
    np.testing.assert_array_equal(kept.vertices, still.vertices)
    slim = Mesh(egg.vertices * np.float32((0.75, 1.0, 1.0)), egg.faces, egg.colors)
    same, moved = (
        run(bundle, slim, **few, stage2_steps=steps, refine_above=4.0, smooth=True)["mesh"]
        for steps in (0, 3)
    )
    assert not np.array_equal(moved.vertices, same.vertices)


def test_the_angle_to_the_views_is_measured(bundle: np.ndarray, egg: Mesh) -> None:
    _, tiles = split(bundle)
    rasterizer, mask = open_rasterizer("cpu"), foreground(tiles, 0.1, 1)
    cameras = bundle_cameras(RADIUS)

    def wanted(k: int, inside: np.ndarray) -> np.ndarray:
        return decode_normals(tiles[k][inside], cameras[k])

    def angle(stretch: float) -> float:
        vertices = egg.vertices * np.float32((stretch, 1.0, 1.0))
        return disagreement(vertices, egg.faces, wanted, mask, cameras, rasterizer)

    right, slim, slimmer = map(angle, (1.0, 0.9, 0.75))
    assert right < 2.0
    assert right < slim < slimmer
    assert slimmer > 5.0
    assert disagreement(egg.vertices + 9, egg.faces, wanted, mask, cameras, rasterizer) == 180.0


def test_torch_is_imported_beforehand_where_it_is_likely_to_be_needed() -> None:
    assert "torch" in Isomer.preloads(IsomerParams())
    assert "torch" not in Isomer.preloads(IsomerParams(refine_above=4.0))


def test_vertices_get_the_colours_of_the_object(outputs: dict[str, Any]) -> None:
    mesh = outputs["mesh"]
    error = np.abs(mesh.colors.astype(int) - paint(mesh.vertices)).max(axis=1)
    in_view = np.abs(mesh.vertices[:, 1]) < 0.6
    assert np.percentile(error[in_view], 99) <= 8
    assert error.max() <= 60  # around the poles, which no view sees well


def test_no_white_from_the_background_reaches_a_mesh_that_is_a_little_too_large(
    bundle: np.ndarray, egg: Mesh
) -> None:
    larger = Mesh(egg.vertices * np.float32(1.02), egg.faces)

    def palest(**params: Any) -> int:
        # Away from the middle no true colour has a smallest channel above 32; white raises it.
        few = {"mask_erode": 0, "weight_threshold": 0.001, "texture": "none"}
        mesh = run(bundle, larger, **few, **params)["mesh"]
        return int(mesh.colors[np.abs(mesh.vertices[:, 0]) > 0.25].min(axis=1).max())

    assert palest() <= 40
    assert palest(outline="white") > 80


def test_the_same_inputs_give_the_same_files(
    outputs: dict[str, Any], bundle: np.ndarray, egg: Mesh
) -> None:
    again = run(bundle, Mesh(egg.vertices, egg.faces), target_faces=30_000)
    assert again["glb"] == outputs["glb"]
    assert again["obj"] == outputs["obj"]
    np.testing.assert_array_equal(again["renders"], outputs["renders"])


def test_the_references_rules_can_be_asked_for(bundle: np.ndarray, egg: Mesh) -> None:
    quirks = run(
        bundle,
        egg,
        outline="white",
        mask_erode=10,
        visibility="faces",
        feather=0,
        view_direction="axis",
        completion="replace",
        axes="reference",
        raster_size=SIZE,
        target_faces=None,
    )
    mesh = quirks["mesh"]
    assert len(mesh.faces) > 4 * len(egg.faces)
    error = np.abs(mesh.colors.astype(int) - paint(mesh.vertices)).max(axis=1)
    assert np.median(error) <= 4


def given(bundle: np.ndarray, egg: Mesh, mask: np.ndarray | None, **params: Any) -> dict[str, Any]:
    few = {"raster_size": 512, "render_size": 96, "texture": "none"}
    stage = Isomer(IsomerParams(**few, silhouettes="given", **params))
    stage.load(Context())
    inputs = {"bundle": bundle, "coarse_mesh": egg}
    return dict(stage.run(inputs if mask is None else {**inputs, "bundle_mask": mask}, Context()))


def test_colours_come_only_from_where_a_given_mask_says_that_the_object_is(
    bundle: np.ndarray, egg: Mesh
) -> None:
    lower = np.zeros((4, SIZE, SIZE, 1), np.uint8)
    lower[:, SIZE // 2 :] = 255

    def green_at_the_top(mesh: Mesh) -> float:
        assert mesh.colors is not None
        return float(mesh.colors[mesh.vertices[:, 1] > 0.6, 1].mean())

    assert green_at_the_top(run(bundle, egg, texture="none")["mesh"]) > 130
    assert green_at_the_top(given(bundle, egg, lower, stage2_steps=0)["mesh"]) < 110


@pytest.mark.parametrize(
    ("mask", "message"),
    [(None, "no stage gave a bundle_mask"), (np.zeros((4, 8, 8, 1), np.uint8), "has shape")],
)
def test_a_given_mask_that_cannot_be_used_is_bad_input(
    bundle: np.ndarray, egg: Mesh, mask: np.ndarray | None, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        given(bundle, egg, mask)


def test_renders_show_the_mesh_in_its_own_colours_on_white(outputs: dict[str, Any]) -> None:
    renders = outputs["renders"].astype(int)
    assert renders.shape == (5, 96, 96, 4)
    assert (renders[:, [0, 0, -1, -1], [0, -1, 0, -1]] == [255, 255, 255, 0]).all()
    assert (renders[:, 48, 48, 3] == 255).all(), "covered by the mesh"
    # Azimuth 90 looks at the red side, 270 at the blue one.
    red_side, blue_side = renders[1, 48, 48], renders[3, 48, 48]
    assert red_side[0] > 2 * red_side[2]
    assert blue_side[2] > 2 * blue_side[0]


def test_no_light_falls_on_renders_and_a_camera_farther_off_sees_less() -> None:
    from stages.isomer.pictures import render_views

    egg = blob()
    grey = Mesh(egg.vertices, egg.faces, np.full(egg.vertices.shape, 160, np.uint8))
    near, far = (
        render_views(grey, 96, radius, open_rasterizer("cpu"))[..., :3].astype(int)
        for radius in (4.0, 8.0)
    )
    assert (abs(near[:, 48, 48] - 160) <= 1).all()
    assert abs(near[0, 30, 48] - near[0, 66, 48]).max() <= 1, "the underside is as bright"
    shown = [(pictures[0] < 255).any(axis=2).sum() for pictures in (near, far)]
    assert 3 * shown[1] < shown[0]


def test_a_mesh_with_a_part_that_no_view_sees_is_coloured_all_over(
    bundle: np.ndarray, egg: Mesh
) -> None:
    # A small closed egg inside the large one, upside down neither seen nor connected.
    inner = egg.vertices * np.float32(0.3)
    both = Mesh(
        np.concatenate([egg.vertices, inner]),
        np.concatenate([egg.faces, egg.faces + len(egg.vertices)]).astype(np.int32),
    )
    mesh = run(bundle, both, subdivisions=0)["mesh"]
    hidden = np.linalg.norm(mesh.vertices / (0.6, 0.8, 0.7), axis=1) < 0.5
    assert hidden.sum() > 1000
    assert mesh.colors[hidden].max(axis=1).min() > 60  # not black


@pytest.mark.parametrize(
    ("spoil", "message"), [(np.ones_like, "blank"), (lambda b: b[:, :-4], "bundle")]
)
def test_a_bundle_that_cannot_be_used_is_bad_input(
    bundle: np.ndarray, egg: Mesh, spoil: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        run(spoil(bundle), egg)
    assert caught.value.kind == "bad_input"


def test_a_mesh_outside_all_views_is_bad_input(bundle: np.ndarray, egg: Mesh) -> None:
    far = Mesh(egg.vertices + np.float32(50), egg.faces)
    with pytest.raises(BadInput, match="no view shows"):
        run(bundle, far)


def test_a_mesh_of_degenerate_faces_is_bad_input(bundle: np.ndarray, egg: Mesh) -> None:
    flat = Mesh(egg.vertices, np.zeros((4, 3), np.int32))
    with pytest.raises(BadInput, match="degenerate"):
        run(bundle, flat)


def test_a_backend_that_cannot_run_fails_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer.mesh.rasterize_meshes", None)
    stage = Isomer(IsomerParams(rasterizer="pytorch3d"))
    with pytest.raises(StageError) as caught:
        stage.load(Context(device="cuda:0"))
    assert caught.value.kind == "missing_dependency"


def test_progress_ends_at_its_total(bundle: np.ndarray, egg: Mesh) -> None:
    steps: list[tuple[int, int]] = []
    context = Context(progress=lambda step, total, note="": steps.append((step, total)))
    stage = Isomer(IsomerParams(raster_size=128, render_size=64, subdivisions=0, stage2_steps=3))
    stage.load(context)
    stage.run({"bundle": bundle, "coarse_mesh": egg}, context)
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


def test_reading_the_contract_imports_nothing_heavy() -> None:
    code = (
        "import sys, stages.isomer.stage as s; s.IsomerParams();"
        "print({'numpy', 'scipy', 'numba', 'torch', 'trimesh'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
