"""Line drawings on white and cutouts with alpha, drawn in code, for the tests of cutting out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIDE = 400
FINER = 3
"""Drawn larger and scaled down, so that outlines are antialiased as in any picture."""

Draw = Callable[["Pen"], None]


class Pen:
    """PIL's drawing in the picture's own pixels, on a finer canvas."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)

    def circle(self, x: float, y: float, r: float, fill: str = "", outline: str = "black") -> None:
        self.ellipse(x, y, r, r, fill, outline)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, fill: str = "", outline: str = "black"
    ) -> None:
        box = [FINER * v for v in (x - rx, y - ry, x + rx, y + ry)]
        self._draw.ellipse(box, fill or None, outline or None, 5 * FINER if outline else 0)

    def arc(self, x: float, y: float, r: float, start: float, end: float) -> None:
        box = [FINER * v for v in (x - r, y - r, x + r, y + r)]
        self._draw.arc(box, start, end, "black", 5 * FINER)

    def band(
        self, x: float, y: float, r: float, width: float, start: float = 0, end: float = 360
    ) -> None:
        """A black arc of a circle, `width` wide, inwards from `r`."""
        box = [FINER * v for v in (x - r, y - r, x + r, y + r)]
        self._draw.arc(box, start, end, "black", round(width * FINER))

    def sector(self, x: float, y: float, r: float, start: float, end: float, fill: str) -> None:
        box = [FINER * v for v in (x - r, y - r, x + r, y + r)]
        self._draw.pieslice(box, start, end, fill)

    def outline(self, *points: tuple[float, float]) -> None:
        closed = [*points, *points[:2]]
        flat = [FINER * v for point in closed for v in point]
        self._draw.line(flat, "black", 5 * FINER, joint="curve")

    def box(self, *corners: float, fill: str = "", outline: str = "") -> None:
        scaled = [FINER * v for v in corners]
        self._draw.rectangle(scaled, fill or None, outline or None, 5 * FINER if outline else 0)


def drawn(draw: Draw, side: int = SIDE) -> Image.Image:
    """An RGB picture (side, side) on white."""
    large = Image.new("RGB", (side * FINER, side * FINER), "white")
    draw(Pen(large))
    return large.resize((side, side), Image.Resampling.BOX)


def eyes(pen: Pen, x: float, y: float, apart: float = 40, r: float = 11) -> None:
    for side in (-1, 1):
        pen.circle(x + side * apart, y, r, "black")


def face(pen: Pen) -> None:
    pen.circle(200, 200, 140, "white")
    eyes(pen, 200, 170)


def panda(pen: Pen) -> None:
    """A face with features above a belly without any, closed by limbs."""
    pen.ellipse(200, 270, 80, 100, "white")
    for x in (115, 285):
        pen.ellipse(x, 260, 28, 55, "black")
    for x in (160, 240):
        pen.ellipse(x, 360, 40, 24, "black")
    for x in (130, 270):
        pen.circle(x, 60, 30, "black")
    pen.ellipse(200, 120, 95, 80, "white")
    eyes(pen, 200, 110, r=20)
    for x in (163, 243):
        pen.circle(x, 108, 5, "white", "")


def loose_snowman(pen: Pen) -> None:
    """Two circles with gaps in them."""
    for start in (5, 125, 245):
        pen.arc(200, 100, 70, start, start + 112)
    for start in (5, 95, 185, 275):
        pen.arc(200, 265, 110, start, start + 84)
    eyes(pen, 200, 90, apart=25, r=8)
    for y in (220, 260, 300):
        pen.circle(200, y, 9, "black")


def shirt(pen: Pen) -> None:
    pen.outline(
        (120, 60), (30, 110), (65, 190), (110, 170), (110, 350), (290, 350), (290, 170),
        (335, 190), (370, 110), (280, 60), (240, 80), (160, 80),
    )  # fmt: skip


def penguin(pen: Pen) -> None:
    pen.ellipse(200, 205, 115, 170, "black")
    pen.ellipse(200, 245, 72, 105, "white", "")
    for x in (165, 235):
        pen.circle(x, 105, 24, "white", "")
        pen.circle(x, 108, 9, "black", "")


def hoop(pen: Pen) -> None:
    pen.circle(200, 200, 160, "goldenrod", "")
    pen.circle(200, 200, 145, "white", "")


def doughnut(pen: Pen) -> None:
    pen.circle(200, 200, 160, "sienna", "")
    pen.circle(200, 200, 60, "white", "")


def doughnut_with_eyes(pen: Pen) -> None:
    doughnut(pen)
    for x in (150, 250):
        pen.circle(x, 90, 22, "white")
        pen.circle(x, 93, 9, "black", "")


def iced_doughnut(pen: Pen) -> None:
    """White icing with sprinkles between two outlines."""
    pen.circle(200, 200, 160, "white")
    pen.circle(200, 200, 55, "white")
    for turn in range(12):
        a = turn * math.pi / 6
        pen.circle(200 + 105 * math.cos(a), 200 + 105 * math.sin(a), 6, "red", "")


def mug(pen: Pen) -> None:
    pen.circle(265, 200, 80, "royalblue", "")
    pen.circle(265, 200, 56, "white", "")
    pen.box(60, 80, 265, 330, fill="royalblue")


def mug_with_eyes(pen: Pen) -> None:
    mug(pen)
    for x in (125, 200):
        pen.circle(x, 170, 26, "white")
        pen.circle(x, 174, 10, "black", "")


def white_mug(pen: Pen) -> None:
    """Outlines alone: the body, and both sides of the handle."""
    pen.circle(265, 200, 85, "white")
    pen.circle(265, 200, 50, "white")
    pen.box(60, 80, 265, 330, fill="white", outline="black")


def glasses(pen: Pen) -> None:
    for x in (105, 295):
        pen.ellipse(x, 200, 85, 70)
    pen.arc(200, 200, 22, 180, 360)


def square_glasses(pen: Pen) -> None:
    for x in (105, 295):
        pen.box(x - 80, 150, x + 80, 250, outline="black")
    pen.arc(200, 180, 22, 180, 360)


def fence(pen: Pen) -> None:
    for x in range(40, 360, 60):
        pen.box(x, 60, x + 28, 350, fill="sienna")
    for y in (110, 270):
        pen.box(25, y, 375, y + 22, fill="sienna")


def letter_b(pen: Pen) -> None:
    pen.box(100, 50, 290, 350, fill="navy")
    pen.box(150, 95, 240, 180, fill="white")
    pen.box(150, 225, 240, 305, fill="white")


def cut_face(pen: Pen) -> None:
    """A white face that the lower edge cuts off."""
    pen.circle(200, 330, 170, "white")
    eyes(pen, 200, 260, apart=60, r=16)


def cat_on_three_sides(pen: Pen) -> None:
    """A white head that reaches over the left, the right and the lower edge."""
    pen.ellipse(200, 420, 230, 260, "white")
    eyes(pen, 200, 300, apart=70, r=20)


def face_in_the_corner(pen: Pen) -> None:
    pen.circle(330, 330, 190, "white")
    eyes(pen, 270, 260, apart=50, r=14)


def cut_penguin(pen: Pen) -> None:
    """A white belly without anything in it, open to the lower edge, below eyes."""
    pen.ellipse(200, 260, 130, 240, "black")
    pen.ellipse(200, 330, 80, 150, "white", "")
    for x in (165, 235):
        pen.circle(x, 120, 24, "white", "")
        pen.circle(x, 123, 9, "black", "")


def cut_shirt(pen: Pen) -> None:
    """Nothing tells the white of the shirt from air under an arch."""
    pen.ellipse(200, 400, 150, 170, "white")
    pen.circle(200, 130, 80, "peachpuff")
    eyes(pen, 200, 120)


def cut_table(pen: Pen) -> None:
    pen.box(40, 150, 360, 190, fill="sienna")
    for x in (60, 310):
        pen.box(x, 190, x + 30, 420, fill="sienna")


def cut_handle(pen: Pen) -> None:
    """A mug whose handle goes over the right edge."""
    pen.circle(330, 200, 100, "royalblue", "")
    pen.circle(330, 200, 70, "white", "")
    pen.box(60, 80, 300, 330, fill="royalblue")


def tight_disc(pen: Pen) -> None:
    """It reaches to all four sides; a signature lies in a corner."""
    pen.circle(200, 200, 205, "teal", "")
    pen.box(8, 375, 40, 390, fill="black")


def lifebuoy(pen: Pen) -> None:
    """Four red segments; the white ones between them have no outline."""
    for start in range(0, 360, 90):
        pen.sector(200, 200, 160, start + 22.5, start + 67.5, "red")
    pen.circle(200, 200, 75, "white", "")


def outlined_lifebuoy(pen: Pen) -> None:
    lifebuoy(pen)
    pen.circle(200, 200, 160)
    pen.circle(200, 200, 75)


def spokes(pen: Pen) -> None:
    """A wheel with a hole for its axle."""
    for turn in range(8):
        a = turn * 45
        pen.sector(200, 200, 150, a - 4, a + 4, "sienna")
    pen.band(200, 200, 160, 20)
    pen.circle(200, 200, 45, "sienna", "")
    pen.circle(200, 200, 25, "white", "")


def dots_in_a_circle(pen: Pen) -> None:
    for turn in range(8):
        a = turn * math.pi / 4
        pen.circle(200 + 130 * math.cos(a), 200 + 130 * math.sin(a), 35, "navy", "")


def dashed_circle(pen: Pen) -> None:
    for turn in range(16):
        pen.band(200, 200, 160, 10, turn * 22.5, turn * 22.5 + 12)


def copyright_sign(pen: Pen) -> None:
    pen.band(200, 200, 160, 24)
    pen.band(200, 200, 80, 24, 45, 315)


def cutout_of(*layers: tuple[np.ndarray, tuple[int, int, int], float]) -> Image.Image:
    """RGBA of layers, the first one lowest: coverage (S, S) in [0, 1], colour, opacity."""
    side = len(layers[0][0])
    rgb = np.zeros((side, side, 3))
    alpha = np.zeros((side, side))
    for cover, colour, opacity in layers:
        own = cover * opacity
        total = own + alpha * (1.0 - own)
        mixed = own[..., None] * np.array(colour) + (alpha * (1.0 - own))[..., None] * rgb
        rgb = np.where(total[..., None] > 0, mixed / np.maximum(total, 1e-9)[..., None], rgb)
        alpha = total
    both = np.concatenate([rgb, alpha[..., None] * 255.0], axis=-1)
    return Image.fromarray(np.rint(both).astype(np.uint8))
