"""Pictures of a page: what the stages made, small, inside of the page itself.

A picture that cannot be read is left out: a page for people is not worth an error.
"""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.record import stage_pictures
from orchestrator.record.preview_sheet import BUNDLES, SIDES, UNDRAWABLE
from orchestrator.record.run_directory import RunDirectory
from orchestrator.record.thumbnails import input_thumbnail, on_ground
from orchestrator.system.reading import limited
from stages.contract import ArtifactSpec
from stages.contract.npy import map_npy
from stages.contract.registry import BrokenStageError, UnknownStageError, stage_class

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_TITLES = {
    "image": "Object",
    "views": "Views",
    "view_normals": "Normals",
    "reference_bundle": "Reference bundle",
    "bundle": "Bundle",
    "renders": "Mesh",
}
"""Image artifacts that everybody wants to see, in the order of the page; others come behind."""
_SIDE, _TILE, _BUNDLE_SIDE, _THUMBNAIL_SIDE = 512, 320, 1280, 256
"""Longest sides in pixels."""
_MOST_VALUES = 1 << 28
"""Of an array. A bundle of 2048 x 4096 has a tenth of it."""
_QUALITY = 85
_MOST_SHOWN, _SHOWN_BYTES, _SHOWN_PIXELS = 50, 1 << 20, 1 << 18
"""Of the pictures that a stage has shown on the way."""
_TEXT_BYTES = 4096
"""What is shown of a text: prompts are shorter."""


@dataclass(frozen=True)
class Tile:
    """One picture: `src` for an <img>, size in pixels, and what is to be seen."""

    src: str
    width: int
    height: int
    label: str


@dataclass(frozen=True)
class Picture:
    """What a node made, as one picture or several tiles.

    main: everybody wants to see it
    """

    title: str
    about: str
    node: str
    tiles: tuple[Tile, ...]
    main: bool


@dataclass(frozen=True)
class Text:
    """A text that a node wrote, cut where it is long, or that was given: without a node then."""

    title: str
    about: str
    node: str
    text: str


_GIVEN = {"input_image": "front"}
"""What a given picture shows, where its artifact's name does not say it."""


@dataclass(frozen=True)
class Shown:
    """All that a run's page shows beside the 3D view. thumbnail: a JPEG file, or b"" """

    pictures: tuple[Picture, ...]
    texts: tuple[Text, ...]
    thumbnail: bytes


def pictures_of(run: RunDirectory) -> Shown:
    """The run's picture, and the images and texts of its nodes that are done."""
    found: list[Picture] = []
    texts: list[Text] = []
    images: dict[str, list[Image.Image]] = {}
    given = list(_given(run))
    if given:
        images[""] = [given[0][1]]
        shown = tuple(_tile(image, label) for label, image in given)
        found.append(Picture("Input", "as given", "", shown, True))
    texts += [
        Text("Words", "as given", "", given.text)
        for given in run.manifest.given.values()
        if given.text
    ]
    for node, spec in _artifacts(run):
        if spec.kind == "text":
            with contextlib.suppress(OSError):
                texts.append(Text(_title(spec), _about(spec), node, _text(run, node, spec)))
        elif spec.kind == "image":
            with contextlib.suppress(*UNDRAWABLE):
                images[spec.name] = _images(run, node, spec)
                found.append(_picture(node, spec, images[spec.name]))
    for node in run.manifest.nodes:
        tiles = tuple(_shown_on_the_way(run, node))
        if tiles:
            found.append(
                Picture(f"{node} on the way", "roughly, while it computed", node, tiles, False)
            )
    order = list(_TITLES.values())
    found.sort(key=lambda one: order.index(one.title) if one.title in order else len(order))
    found.sort(key=lambda one: one.title != "Input")
    first = next((images[name] for name in ("renders", "views", "image", "") if name in images), [])
    return Shown(tuple(found), tuple(texts), _thumbnail(first[0]) if first else b"")


def _given(run: RunDirectory) -> Iterator[tuple[str, Image.Image]]:
    """(what it shows, small) of each picture that was given: front, back, left, right, mask."""
    several = len(run.manifest.given) > 1
    for artifact, record in run.manifest.given.items():
        with contextlib.suppress(OSError):  # a link, or nothing there
            run.inside.check(record.file)
            image = input_thumbnail(run.path / record.file, _SIDE)
            label = _GIVEN.get(artifact, "") or artifact.removeprefix("input_")
            if image is not None:
                yield label if several else "input", image


def data_url(kind: str, content: bytes) -> str:
    """A file of this MIME type as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _shown_on_the_way(run: RunDirectory, node: str) -> Iterator[Tile]:
    """What a node has shown of its work."""
    from PIL import Image

    for name in stage_pictures.names(run, node)[:_MOST_SHOWN]:
        # Pillow's plugins have many errors for a damaged file.
        with contextlib.suppress(Exception), run.inside.read(f"{node}/{name}") as stream:
            content = limited(stream, _SHOWN_BYTES)
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                if image.width * image.height <= _SHOWN_PIXELS:
                    label = stage_pictures.PICTURE.sub(r"\1", name).replace("-", " ")
                    yield _tile(image.convert("RGB"), label)


def _artifacts(run: RunDirectory) -> Iterator[tuple[str, ArtifactSpec]]:
    """(node, what it promised) of the artifacts that there are."""
    for node, record in run.manifest.nodes.items():
        if record.state == "done":
            with contextlib.suppress(BrokenStageError, UnknownStageError):
                for spec in stage_class(record.stage).outputs:
                    if record.artifacts.get(spec.name):
                        yield node, spec


def _title(spec: ArtifactSpec) -> str:
    return _TITLES.get(spec.name) or spec.name.replace("_", " ").capitalize()


def _about(spec: ArtifactSpec) -> str:
    return spec.doc.replace("`", "")


def _text(run: RunDirectory, node: str, spec: ArtifactSpec) -> str:
    file = run.manifest.nodes[node].artifacts[spec.name][0].file
    with run.inside.read(f"{node}/{file}") as stream:
        content = stream.read(_TEXT_BYTES + 1)
    more = " ..." if len(content) > _TEXT_BYTES else ""
    return content[:_TEXT_BYTES].decode(errors="replace") + more


def _picture(node: str, spec: ArtifactSpec, images: list[Image.Image]) -> Picture:
    more = ["askew"] if spec.name == "renders" else map(str, range(len(SIDES), len(images)))
    labels = [""] if len(images) == 1 else [*SIDES, *more]
    tiles = tuple(_tile(image, label) for image, label in zip(images, labels, strict=False))
    return Picture(_title(spec), _about(spec), node, tiles, spec.name in _TITLES)


def _images(run: RunDirectory, node: str, spec: ArtifactSpec) -> list[Image.Image]:
    """An image artifact, small: one image, or N of (N, H, W, C). Raises one of `UNDRAWABLE`."""
    file = run.manifest.nodes[node].artifacts[spec.name][0].file
    run.inside.check(f"{node}/{file}")
    pixels = map_npy(run.path / node / file)
    if pixels.size > _MOST_VALUES or pixels.ndim not in (3, 4) or not pixels.size:
        raise ValueError("too large, or no image")
    if pixels.ndim == 4:
        return [_small(tile, _TILE) for tile in pixels[:8]]
    return [_small(pixels, _BUNDLE_SIDE if spec.name in BUNDLES else _SIDE)]


def _small(pixels: np.ndarray, side: int) -> Image.Image:
    """An (H, W, 1), (H, W, 3) or (H, W, 4) image in uint8 or in float [0, 1]: the fourth channel is
    the coverage of a picture on white."""
    import numpy as np
    from PIL import Image

    step = max(1, max(pixels.shape[:2]) // (2 * side))
    pixels = pixels[::step, ::step]
    if pixels.dtype.kind == "f":
        pixels = (np.clip(np.nan_to_num(pixels), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image.mode == "RGBA":
        image = on_ground(Image.merge("RGB", image.split()[:3]), image.getchannel("A"))
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    return image


def _tile(image: Image.Image, label: str) -> Tile:
    return Tile(data_url("image/jpeg", _jpeg(image)), image.width, image.height, label)


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return _jpeg(small)


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=_QUALITY)
    return buffer.getvalue()
