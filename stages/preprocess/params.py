"""Settings of stage "preprocess"."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from stages import contract

METHODS = ("auto", "alpha", "rembg", "network", "grabcut", "keep")
"""Values of `background` beside colours."""

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}
"""Backdrops that have a name."""


class PreprocessParams(contract.Params):
    """Settings of `Preprocess`."""

    background: str = Field(
        "auto",
        description="how the object is told from its background: auto takes a meaningful alpha "
        "channel, else rembg where its weights are on this machine, else a plain backdrop by its "
        "colour, else the network that comes with the program, and GrabCut where that is not sure; "
        "alpha insists on the channel; rembg asks the network isnet-general-use; network asks the "
        "one that comes with the program; grabcut does without both; "
        "white, black or '#rrggbb' is the colour of a background that was painted over; "
        "keep takes the whole picture as the object",
    )
    holes: Literal["auto", "keep", "fill"] = Field(
        "auto",
        description="enclosed pieces of a plain backdrop's colour: auto decides by what is in and "
        "around them whether they are holes or white parts; keep: all are holes; fill: none is, "
        "nor are holes in alpha",
    )
    framing: Literal["centered", "reference"] = Field(
        "centered",
        description="centered puts the object in the middle at foreground_ratio; reference "
        "reproduces the reference's framing, which keeps the picture's own",
    )
    sides: Literal["named", "auto"] = Field(
        "named",
        description="what pictures beside the front show: named: what they were given as; auto: "
        "found out by outlines and colours, and told",
    )
    foreground_ratio: float = Field(
        0.85, ge=0.3, le=1.0, description="longest side of the object, of the square's side"
    )
    size: int = Field(
        1024,
        ge=64,
        le=4096,
        description="largest side of the square in pixels (framing=centered); the object keeps "
        "its own resolution below it, down to a square of 512",
    )
    defringe: bool = Field(
        True, description="take the old background's colour out of the object's rim"
    )
    alpha_threshold: int = Field(
        12, ge=0, le=254, description="alpha above this belongs to the object (0..255)"
    )
    max_pixels: int = Field(
        16384 * 16384,
        ge=256,
        le=1 << 30,
        description="largest picture, width x height; checked before decoding. Pictures of more "
        "than 24 megapixels are read scaled down",
    )
    max_bytes: int = Field(
        256 << 20, ge=1024, le=1 << 30, description="largest input file in bytes"
    )

    @field_validator("background", mode="before")
    @classmethod
    def _is_known(cls, value: object) -> object:
        if value == "none":  # its name in earlier versions
            return "keep"
        if not isinstance(value, str) or not (
            value in (*METHODS, *COLOURS) or re.fullmatch(r"#[0-9a-fA-F]{6}", value)
        ):
            listed = ", ".join((*METHODS, *COLOURS))
            raise ValueError(f"expected one of {listed}, or a colour as '#rrggbb', in quotes")
        return value


def colour_of(background: str) -> tuple[int, int, int]:
    """sRGB of "white", "black" or "#rrggbb"."""
    if background in COLOURS:
        return COLOURS[background]
    red, green, blue = bytes.fromhex(background[1:])
    return red, green, blue
