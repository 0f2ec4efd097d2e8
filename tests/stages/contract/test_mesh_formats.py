"""What `--format` and `--height` understand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from stages.contract.mesh_formats import FORMATS, parse_formats, parse_length

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


@pytest.mark.parametrize(
    ("text", "metres"),
    [("100mm", 0.1), ("10 cm", 0.1), ("0.1m", 0.1), ("4in", 0.1016), (".5m", 0.5), ("7.mm", 0.007)],
)
def test_lengths_with_their_units(text, metres):
    assert parse_length(text) == pytest.approx(metres)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("100", "a number and a unit"),
        ("mm", "a number and a unit"),
        ("-5mm", "a number and a unit"),
        ("1e9m", "a number and a unit"),
        ("nanmm", "a number and a unit"),
        ("", "a number and a unit"),
        ("5ft", 'unknown unit "ft"; known: mm, cm, m, in'),
        ("5MM", "unknown unit"),
        ("0mm", "out of range"),
        ("1001m", "out of range"),
    ],
)
def test_what_is_no_length_is_told_with_what_is(text, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_length(text)


def test_formats_are_named_once_each_and_in_order():
    assert parse_formats("3mf, .STL,3mf") == ("3mf", "stl")
    assert parse_formats(",".join(FORMATS)) == tuple(FORMATS)


@pytest.mark.parametrize("text", ["fbx", "stl,", "", "stl 3mf"])
def test_unknown_formats_are_told_with_the_known(text):
    with pytest.raises(ValueError, match=r"known: glb, obj, ply, stl, 3mf, usdz"):
        parse_formats(text)


def test_packages_that_a_format_needs_are_extras_of_ours():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    needed = {one.package for one in FORMATS.values() if one.package}
    assert needed
    assert needed <= {package for packages in extras.values() for package in packages}
