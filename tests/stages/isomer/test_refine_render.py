"""Pictures of normals and their gradients: by hand, against finite differences, on a ball."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage
from skimage.measure import marching_cubes

from stages.geometry.cameras import bundle_cameras
from stages.geometry.diffrender.antialias import antialias, silhouette_sides
from stages.geometry.diffrender.samples import barycentrics, sample
from stages.geometry.diffrender.vector_pictures import Scene, draw_vectors
from stages.geometry.diffrender.views import Region, Views, Visible
from stages.geometry.raster import Rasterizer, interpolate, open_rasterizer
from stages.geometry.silhouettes import signed_distance
from stages.geometry.torch_edges import edge_table, face_normals, vertex_normals
from stages.isomer.refine import outline
from stages.isomer.refine.losses import coverage_loss, picture_loss, pictures_loss
from stages.isomer.refine.normal_render import render_vectors
from stages.isomer.refine.outline import at_outline, outline_loss
from stages.isomer.refine.targets import init_target

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SIZE = 64


@pytest.fixture(scope="module")
def rasterizer() -> Rasterizer:
    return open_rasterizer("cpu")


@pytest.fixture(scope="module")
def mesh() -> tuple[torch.Tensor, torch.Tensor]:
    """A ball of radius 0.7."""
    steps = np.linspace(-1.0, 1.0, 33)
    field = np.linalg.norm(np.meshgrid(steps, steps, steps, indexing="ij"), axis=0) - 0.71
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="ascent")
    points = torch.tensor(vertices.copy()) / 16.0 - 1.0
    return points / points.norm(dim=1, keepdim=True) * 0.7, torch.tensor(
        faces[:, ::-1].copy()
    ).long()


class PixelPair:
    """One triangle whose upright edge at column `edge` ends in a 4 x 4 picture.

    It covers columns 0 and 1 of every row; in pixel units, w = 2.
    """

    def __init__(self, edge: float, transposed: bool = False) -> None:
        points = torch.tensor([(edge, -40.0), (edge, 44.0), (-90.0, 2.0)])
        if transposed:
            points = points.flip(1)
        self.points = points.requires_grad_()
        face = torch.full((1, 4, 4), -1)
        if transposed:
            face[0, :2] = 0
        else:
            face[0, :, :2] = 0
        depth = torch.where(face >= 0, 2.0, torch.inf)
        self.visible = Visible(4, face, depth)
        self.faces = torch.tensor([[0, 1, 2]])
        self.across = self.faces.roll(-2, dims=1)
        self.transposed = transposed

    def render(self) -> torch.Tensor:
        """(4, 4) coverage after antialiasing, columns along the pair."""
        w = torch.full((3, 1), 2.0)
        ndc = (self.points / 2.0 - 1.0) * torch.tensor([1.0, -1.0])
        clip = torch.cat([ndc * w, w], dim=1)[None]
        region = self.visible.region
        image = (self.visible.face.reshape(-1, 1)[region.pixels] >= 0).float()
        image = antialias(image, self.visible, clip, self.faces, self.across)
        found = region.whole(image).reshape(4, 4)
        return found.T if self.transposed else found


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("edge", "inner", "outer"),
    [
        (1.8, 0.8, 0.0),  # 0.3 beyond the centre: the covered pixel takes 0.2 of the other
        (2.0, 1.0, 0.0),  # in the middle: nothing is mixed
        (2.3, 1.0, 0.3),  # 0.8 beyond it: the other pixel takes 0.3
        (2.54, 1.0, 0.5),  # a little outside the pair still counts, clamped
        (2.6, 1.0, 0.0),  # too far outside
    ],
)
def test_a_silhouette_between_two_pixels_mixes_them_by_hand(
    edge: float, inner: float, outer: float, transposed: bool
) -> None:
    found = PixelPair(edge, transposed).render().detach().numpy()
    np.testing.assert_allclose(found[:, 1], inner, atol=1e-5)
    np.testing.assert_allclose(found[:, 2], outer, atol=1e-5)
    np.testing.assert_array_equal(found[:, [0, 3]], [[1.0, 0.0]] * 4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("edge", [1.8, 2.3, 2.54])
def test_moving_the_silhouette_moves_the_coverage_one_to_one(edge: float, transposed: bool) -> None:
    pair = PixelPair(edge, transposed)
    pair.render()[1].sum().backward()
    gradient = pair.points.grad
    assert gradient is not None
    along, other = (1, 0) if transposed else (0, 1)
    # d coverage / d edge = 1, shared by its ends as the row divides the edge; also where clamped.
    share = (1.5 + 40.0) / 84.0
    np.testing.assert_allclose(gradient[:2, along], [1.0 - share, share], atol=1e-4)
    np.testing.assert_allclose(gradient[2], 0.0)
    np.testing.assert_allclose(gradient[:2, other], 0.0, atol=1e-4)


def test_sides_between_two_faces_that_look_at_the_camera_are_no_silhouettes() -> None:
    square = torch.tensor([[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]])
    faces = torch.tensor([(0, 1, 2), (0, 2, 3)])
    found = silhouette_sides(square, faces, edge_table(faces, 4).across(faces))
    assert found[0].tolist() == [[True, True, False], [False, True, True]]
    folded = square.clone()
    folded[0, 3] = torch.tensor((0.9, 0.2))  # the second face folds back over the first
    found = silhouette_sides(folded, faces, edge_table(faces, 4).across(faces))
    assert found[0, :, [2, 0]].diagonal().tolist() == [True, True]


def test_antialiasing_is_linear_in_the_colours() -> None:
    pair = PixelPair(1.8)
    clip = torch.tensor([[(-0.2, 42.0, 2.0), (-0.2, -42.0, 2.0), (-92.0, 0.0, 2.0)]])
    count = len(pair.visible.region.pixels)
    image = torch.rand(count, 3, generator=torch.Generator().manual_seed(1)).double()
    image.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda colors: antialias(colors, pair.visible, clip, pair.faces, pair.across), (image,)
    )


def test_barycentrics_equal_the_rasterizers_and_their_gradient_finite_differences(
    rasterizer: Rasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    points, faces = mesh
    camera = bundle_cameras(4.5)[0]
    clip4 = camera.to_clip(points.numpy().astype(np.float64))
    shot = rasterizer.rasterize(clip4, faces.numpy().astype(np.int32), (SIZE, SIZE))
    clip = torch.tensor(clip4[None][..., [0, 1, 3]])
    pixels = torch.tensor(np.flatnonzero(shot.covered))
    corners = faces[torch.tensor(shot.pix_to_face).reshape(-1)[pixels].long()]
    found = barycentrics(clip, corners, pixels, SIZE)
    np.testing.assert_allclose(found, shot.barycentrics[shot.covered], atol=1e-4)
    some = slice(None, None, 101)
    inputs = clip[:, corners[some]].reshape(1, -1, 3).requires_grad_()
    apart = torch.arange(inputs.shape[1]).reshape(-1, 3)
    assert torch.autograd.gradcheck(
        lambda free: barycentrics(free, apart, pixels[some], SIZE), (inputs,), eps=1e-7, atol=1e-4
    )


def test_pictures_show_interpolated_normals_and_coverage(
    rasterizer: Rasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    points, faces = mesh
    views = Views(bundle_cameras(4.5), SIZE, rasterizer, "cpu")
    visible = views.look(points, faces)
    normals = vertex_normals(points, faces)
    across = edge_table(faces, len(points)).across(faces)
    image = render_vectors(points, faces, across, normals, views, visible)
    for picture, camera in zip(visible.region.whole(image).numpy(), views.cameras, strict=True):
        triangles = faces.numpy().astype(np.int32)
        shot = rasterizer.rasterize(camera.to_clip(points.numpy()), triangles, (SIZE, SIZE))
        plain = interpolate(shot, triangles, (normals.numpy() + 1.0) / 2.0)
        inner = picture[..., 3] == 1.0
        assert inner.sum() > 900
        np.testing.assert_allclose(picture[inner, :3], plain[inner], atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_loops_draw_what_tensor_operations_draw_and_have_their_gradients(
    rasterizer: Rasterizer, threads: int
) -> None:
    # Faces large enough to own pixels at the outline, and open, so that borders are silhouettes.
    ball = trimesh.creation.icosphere(1, radius=0.7)
    points = torch.tensor(ball.vertices, dtype=torch.float32)
    faces = torch.tensor(ball.faces[:-10], dtype=torch.int64)
    views = Views(bundle_cameras(4.5), SIZE, rasterizer, "cpu", threads)
    visible = views.look(points, faces)
    across = edge_table(faces, len(points)).across(faces)
    generator = torch.Generator().manual_seed(2)
    vectors = 2.0 * torch.rand(len(points), 3, generator=generator) - 1.0
    weights = torch.randn(len(visible.region.pixels), 4, generator=generator)

    def by_operations(clip: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        samples = sample(clip, faces, visible)
        shaded = samples.interpolate((values + 1.0) / 2.0)
        image = samples.fill(torch.cat([shaded, torch.ones_like(shaded[:, :1])], dim=1), 0.0)
        return antialias(image, visible, clip, faces, across)

    def by_loops(clip: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return draw_vectors(clip, values, Scene(faces, across, visible, threads))

    found = []
    for draw in (by_operations, by_loops):
        inputs = views.to_clip(points).requires_grad_(), vectors.clone().requires_grad_()
        image = draw(*inputs)
        found.append((image.detach(), *torch.autograd.grad((image * weights).sum(), inputs)))
    mixed = (found[0][0][:, 3] > 0.0) & (found[0][0][:, 3] < 1.0)
    assert int(mixed.sum()) > 100
    for expected, looped in zip(*found, strict=True):
        scale = float(expected.abs().max())
        np.testing.assert_allclose(looped, expected, atol=2e-4 * scale)


def test_sums_of_normals_have_the_gradient_of_what_they_add_up(
    mesh: tuple[torch.Tensor, torch.Tensor],
) -> None:
    points, faces = mesh
    weights = torch.randn(len(points), 3, generator=torch.Generator().manual_seed(4))
    found = []
    for dtype in (torch.float32, torch.float64):
        free = points.to(dtype).clone().requires_grad_()
        if dtype == torch.float32:
            normals = vertex_normals(free, faces)
        else:
            total = torch.zeros_like(free)
            for k in range(3):
                total = total.index_add(0, faces[:, k], face_normals(free, faces))
            normals = torch.nn.functional.normalize(total, eps=1e-6, dim=1)
        found.append((normals, *torch.autograd.grad((normals * weights).sum(), free)))
    for looped, expected in zip(*found, strict=True):
        np.testing.assert_allclose(looped.detach(), expected.detach(), rtol=1e-3, atol=1e-3)


def test_what_pictures_lose_is_the_same_in_one_pass(
    rasterizer: Rasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    visible = Views(bundle_cameras(4.5), SIZE, rasterizer, "cpu").look(*mesh)
    generator = torch.Generator().manual_seed(6)
    image = torch.rand(len(visible.region.pixels), 4, generator=generator).requires_grad_()
    wanted = torch.rand(4, SIZE, SIZE, 3, generator=generator)
    alpha = torch.rand(4, SIZE, SIZE, generator=generator)
    apart = picture_loss(image, visible.region, wanted)
    apart = apart + coverage_loss(image, visible.region, alpha, 700.0)
    together = pictures_loss(image, visible.region, wanted, alpha, 700.0)
    assert float(together.detach()) == pytest.approx(float(apart.detach()), rel=1e-5)
    one, two = (torch.autograd.grad(loss, image)[0] for loss in (apart, together))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-9)


def test_the_outline_found_by_loops_is_that_of_tensor_operations(
    rasterizer: Rasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    points, faces = mesh
    views = Views(bundle_cameras(4.5), 256, rasterizer, "cpu", 2)
    visible = views.look(points, faces)
    found = []
    for look in (at_outline, outline._by_tensors):
        view, vertex = look(points, faces, views, visible)
        found.append(set((view * len(points) + vertex).tolist()))
    assert len(found[0]) > 100
    # Pixels that a vertex lies just between may be taken either way.
    assert len(found[0] ^ found[1]) <= 2


def test_the_gradient_of_the_covered_area_is_that_of_a_growing_shape(
    rasterizer: Rasterizer,
) -> None:
    # Of an octahedron, whose faces at the outline are large enough to own pixels.
    points = torch.tensor(
        [(0.7, 0, 0), (-0.7, 0, 0), (0, 0.7, 0), (0, -0.7, 0), (0, 0, 0.7), (0, 0, -0.7)]
    )
    faces = torch.tensor(
        [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    )
    scale = torch.tensor(1.0, requires_grad=True)
    views = Views(bundle_cameras(4.5), SIZE, rasterizer, "cpu")
    visible = views.look(points, faces)
    across = edge_table(faces, len(points)).across(faces)
    image = render_vectors(points * scale, faces, across, points, views, visible)
    area = image[..., 3].sum()
    area.backward()
    assert scale.grad is not None
    fine = Views(bundle_cameras(4.5), 1024, rasterizer, "cpu").look(points, faces)
    assert float(area.detach()) == pytest.approx(float((fine.face >= 0).sum()) / 256.0, rel=5e-3)
    assert float(scale.grad) == pytest.approx(2.0 * float(area.detach()), rel=0.05)


def test_a_region_holds_the_covered_pixels_and_those_beside_them() -> None:
    covered = torch.zeros(2, 8, 8, dtype=torch.bool)
    covered[0, 0, 0] = covered[1, 4, 4:6] = True
    region = Region.around(covered)
    grown = ndimage.binary_dilation(covered.numpy(), ndimage.generate_binary_structure(2, 1)[None])
    assert region.pixels.tolist() == np.flatnonzero(grown).tolist()
    assert region.rows[region.pixels].tolist() == list(range(len(region.pixels)))
    values = torch.arange(1.0, len(region.pixels) + 1.0)[:, None]
    whole = region.whole(values, background=-1.0)[..., 0].numpy()
    assert (whole[~grown] == -1.0).all()
    assert whole[grown].tolist() == values[:, 0].tolist()


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_the_outline_is_pulled_onto_the_silhouette_from_both_sides(
    rasterizer: Rasterizer, mesh: tuple[torch.Tensor, torch.Tensor], scale: float
) -> None:
    points, faces = mesh
    views = Views(bundle_cameras(4.5), 256, rasterizer, "cpu")
    covered = (views.look(points, faces).face >= 0).numpy()
    distance = torch.from_numpy(signed_distance(covered.astype(np.float32)))
    fitting = float(outline_loss(points, faces, views, views.look(points, faces), distance)[0])
    moved = (points * scale).requires_grad_()
    loss, off = outline_loss(moved, faces, views, views.look(moved, faces), distance)
    loss.backward()
    assert float(loss.detach()) > 20.0 * fitting
    assert moved.grad is not None
    felt = moved.grad.norm(dim=1) > 0.0
    assert (off[felt] > 1.0).all()
    assert 50 < int(felt.sum()) < len(points) / 2
    # Descent moves the outline outwards if the ball is too small, inwards if too large.
    outwards = (-moved.grad * points).sum(dim=1)[felt] > 0.0
    assert float((outwards == (scale < 1.0)).float().mean()) > 0.99


def test_gradients_of_the_shading_agree_with_finite_differences(
    rasterizer: Rasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    points, faces = mesh
    views = Views(bundle_cameras(4.5), SIZE, rasterizer, "cpu")
    visible = views.look(points, faces)
    across = edge_table(faces, len(points)).across(faces)
    generator = torch.Generator().manual_seed(5)
    weights = torch.rand(4, SIZE, SIZE, 4, generator=generator)
    # Away from outlines, where visibility would change.
    inner = [ndimage.binary_erosion(face >= 0, iterations=3) for face in visible.face.numpy()]
    weights *= torch.from_numpy(np.stack(inner))[..., None]
    weights = weights.reshape(-1, 4)[visible.region.pixels]
    direction = torch.sin(4.0 * points.roll(1, dims=1) + 1.0)

    def objective(vertices: torch.Tensor) -> torch.Tensor:
        normals = vertex_normals(vertices, faces)
        image = render_vectors(vertices, faces, across, normals, views, visible)
        return (image.double() * weights).sum()

    moved = points.clone().requires_grad_()
    objective(moved).backward()
    assert moved.grad is not None
    expected = float((moved.grad * direction).sum())
    step = 2e-4
    ahead, behind = objective(points + step * direction), objective(points - step * direction)
    assert float(ahead - behind) / (2.0 * step) == pytest.approx(expected, rel=0.02, abs=0.2)


def test_target_pictures_equal_the_references() -> None:
    with np.load(GOLDEN / "isomer_init_target.npz") as data:
        np.testing.assert_allclose(init_target(data["rgba"]), data["target"], atol=1e-5)
