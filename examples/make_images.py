"""Draw the example pictures: a toy robot, a mug and a mushroom house.

    python examples/make_images.py [--out FOLDER] [--size PIXELS] [NAME ...]

The pictures show what inputs may look like:

    robot.png      transparent background
    mug.png        opaque, on a light gradient with a soft shadow; the handle's hole is background
    mushroom.png   opaque, on plain white
"""

from __future__ import annotations

import argparse
from pathlib import Path

from toys.objects import SCENES
from toys.tracer import render


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the example pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENES)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--size", type=int, default=768)
    options = parser.parse_args()
    for name in options.names or SCENES:
        if name not in SCENES:
            parser.error(f"unknown picture {name}; known: {', '.join(SCENES)}")
        path = options.out / f"{name}.png"
        render(SCENES[name](), options.size).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
