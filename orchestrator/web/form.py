"""The page's form: what a mesh is to be made of, and how."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.exceptions import InvalidPathError

from orchestrator.errors import KissError
from orchestrator.web.choices import (
    AUTO,
    BACKGROUNDS,
    FORMATS,
    MOST_CAPTION,
    MOST_TEXT,
    Choices,
    Given,
    profiles,
    reads_words,
    starts,
)

MESHES = [".glb", ".ply", ".stl", ".obj", ".gltf", ".zip"]
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]


@dataclass(frozen=True)
class Form:
    """Gradio's components. given, chosen: in the order of the fields of `Given` and `Choices`"""

    given: list[Any]
    chosen: list[Any]
    groups: dict[str, Any]
    go: Any

    @property
    def inputs(self) -> list[Any]:
        return [*self.given, *self.chosen]

    @property
    def start(self) -> Any:
        return self.given[0]

    @property
    def profile(self) -> Any:
        return self.chosen[0]


def read(values: tuple[Any, ...]) -> tuple[Given, Choices]:
    """What the components of `Form.inputs` hold."""
    count = len(fields(Given))
    return Given(*values[:count]), Choices(*values[count:])


def theme() -> Any:
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Default(font=FONTS, font_mono=mono, primary_hue="blue")


def picture_file(**options: Any) -> Any:
    """A picture that is handed on as the browser sent it, and not decoded in this process.

    Not a class of its own: Gradio writes a stub beside the module of each.
    """
    return _as_sent(gr.Image(type="filepath", image_mode=None, **options))


def mesh_file(**options: Any) -> Any:
    """A mesh's file, as the browser sent it."""
    return _as_sent(gr.File(file_types=MESHES, **options))


def _as_sent(component: Any) -> Any:
    """Hand on a file's path, and fetch none from another server: whoever has one uploads it."""
    fetch = component.async_move_resource_to_block_cache

    async def keep(path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("upload the file: none is fetched from elsewhere", print_exception=False)
        return await fetch(path)

    vars(component)["async_move_resource_to_block_cache"] = keep
    vars(component)["preprocess"] = lambda sent: None if sent is None else sent.path
    return component


def refuse_in_words() -> None:
    """A path that a program names in place of an upload is refused with a sentence; Gradio itself
    answers such a request with nothing, and prints where in its source that was."""
    check = processing_utils._check_allowed
    if getattr(check, "in_words", False):
        return

    def told(path: str | Path, check_in_upload_folder: bool) -> None:
        try:
            check(path, check_in_upload_folder)
        except InvalidPathError:
            raise gr.Error(
                "the file was not uploaded here: upload it first, and name what that answers",
                print_exception=False,
            ) from None

    vars(told)["in_words"] = True
    vars(processing_utils)["_check_allowed"] = told


def build() -> Form:
    """The components, put into the column that is being built."""
    offered = starts()
    start = gr.Radio(offered, value=offered[0][1], label="Make it of", elem_id="start")
    with gr.Column() as of_picture:
        picture = picture_file(
            label="Picture of one object",
            sources=["upload", "clipboard"],
            height=280,
            elem_id="picture",
        )
        with gr.Accordion("Pictures of its other sides", open=False), gr.Row():
            sides = [
                picture_file(
                    label=side, sources=["upload"], height=140, min_width=90, elem_id=side.lower()
                )
                for side in ("Back", "Left", "Right")
            ]
    with gr.Column(visible=False) as of_mesh:
        mesh = mesh_file(
            label="Mesh: GLB, PLY, STL, or a ZIP of an OBJ or glTF with its pictures",
            elem_id="mesh",
        )
    with gr.Column(visible=False) as of_words:
        text = gr.Textbox(
            label="What it is, in your words",
            placeholder="a red ceramic vase with two handles",
            lines=3,
            max_length=MOST_TEXT,
            elem_id="text",
        )
    profile = gr.Dropdown(
        profiles("picture"), value=AUTO, label="Profile", elem_id="profile", filterable=False
    )
    with gr.Row():
        fast = gr.Checkbox(label="Faster settings", info="where the profile has some")
        seed = gr.Textbox(label="Seed", info="empty: the profile's", max_length=19, elem_id="seed")
    with gr.Accordion("More settings", open=False):
        more = _more()
    go = gr.Button("Make the mesh", variant="primary", size="lg", elem_id="go")
    return Form(
        [start, picture, *sides, mesh, text],
        [profile, fast, seed, *more],
        {"picture": of_picture, "mesh": of_mesh, "text": of_words},
        go,
    )


def _more() -> list[Any]:
    """The fields of `Choices` that few need."""
    return [
        gr.Slider(
            0,
            48,
            value=0,
            step=0.5,
            label="Card memory that may be used, GiB",
            info="0: what is free. With less, heavy stages stream: the plan tells.",
        ),
        gr.Textbox(
            label="What the picture shows, in your words",
            info="for profiles that describe it; empty: a model does",
            max_length=MOST_CAPTION,
        ),
        gr.Dropdown(list(BACKGROUNDS.items()), value="auto", label="Background of the picture"),
        gr.CheckboxGroup(list(FORMATS), label="More files", info="besides GLB and OBJ"),
        gr.Textbox(
            label="Settings of stages",
            lines=2,
            max_length=4000,
            placeholder="isomer.stage2_steps = 8",
            info="node.param = value, one a line",
        ),
    ]


def shown_for(start: str) -> list[Any]:
    """What changes when somebody begins with something else: the picture's, the mesh's and the
    words' fields, and the profiles."""
    return [
        gr.update(visible=start == "picture"),
        gr.update(visible=start == "mesh"),
        words_for(start, AUTO),
        gr.update(choices=profiles(start), value=AUTO),
    ]


def words_for(start: str, profile: str) -> Any:
    """The field of the words: shown where the profile has use for them."""
    shown = start == "text"
    if start == "mesh":
        with contextlib.suppress(KissError):  # the plan says what is wrong
            shown = reads_words(start, profile)
    return gr.update(visible=shown)
