"""Who may import whom: the floors of the house, held by the imports of every file, wherever they
stand in it."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = {
    "orchestrator": (
        ("errors",),
        ("system",),
        ("pipeline", "processes"),
        ("record", "weights"),
        ("planning", "running", "report"),
        ("commands",),
        ("api",),
        ("web",),
        ("cli",),
        ("__main__",),
    ),
    "stages": (
        ("contract",),
        ("weights",),
        ("process", "geometry", "streaming"),
        ("models", "evaluation"),
        (
            "preprocess",
            "mesh_views",
            "caption",
            "prompt",
            "encode",
            "flux",
            "multiview",
            "lrm",
            "isomer",
        ),
        ("export",),
    ),
}
"""Rooms of each package from the lowest floor up: a room imports from lower floors and from itself,
and nothing from its neighbours."""
FOR_THE_PARENT = {"contract", "process", "weights"}
"""Rooms of `stages` that `orchestrator` imports."""
OUTSIDE = {
    "kiss3d": {"stages", "bench", "devtools", "tests", "training"},
    "orchestrator": {"kiss3d", "bench", "devtools", "tests", "training"},
    "stages": {"kiss3d", "orchestrator", "bench", "devtools", "tests", "training"},
    "devtools": {"bench", "tests", "training"},
    "bench": {"tests", "training"},
    "training": {"tests"},
}
"""What a package never imports, for all its rooms."""
UNDECLARED = {"__init__"}
"""A package's own file: its docstring, its version."""


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} is empty"
    return found


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Dotted names that a file imports, at its top, in a function or for types, with their lines.

    `from a import b` gives a.b: that may be a module or a name in one.
    """
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@functools.cache
def room_of(package: str, parts: tuple[str, ...]) -> str:
    """The room of a module or file, by what follows the package's name."""
    first = parts[0].removesuffix(".py") if parts else "__init__"
    there = ROOT / package / first
    return first if there.is_dir() or there.with_suffix(".py").is_file() else "__init__"


def arrows(package: str) -> Iterator[tuple[str, str, str]]:
    """Each import from one room into another: (from, to, where it stands)."""
    for file in files(package):
        source = room_of(package, file.relative_to(ROOT / package).parts)
        for name, line in imported(file):
            top, *rest = name.split(".")
            if top == package and (target := room_of(package, tuple(rest))) != source:
                yield source, target, f"{file.relative_to(ROOT)}:{line} imports {name}"


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_is_on_a_floor(package: str) -> None:
    declared = {room for floor in FLOORS[package] for room in floor} | UNDECLARED
    rooms = {room_of(package, file.relative_to(ROOT / package).parts) for file in files(package)}
    assert rooms <= declared


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_imports_only_from_lower_floors(package: str) -> None:
    floor_of = {room: number for number, floor in enumerate(FLOORS[package]) for room in floor}
    floor_of |= dict.fromkeys(UNDECLARED, -1)
    wrong = [
        where for source, target, where in arrows(package) if floor_of[target] >= floor_of[source]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", FLOORS)
def test_the_modules_of_a_package_import_each_other_in_no_circle(package: str) -> None:
    """At their tops; what a function imports when it is called, or only types, may lead back."""
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files(package)
    }
    graph: dict[str, set[str]] = defaultdict(set)
    for module, file in modules.items():
        for node in tree_of(file).body:
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[module] |= {
                    name if name in modules else str(node.module) for name in names
                } & modules.keys()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("package", OUTSIDE)
def test_a_package_knows_nothing_of_those_above_it(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files(package)
        for name, line in imported(file)
        if name.partition(".")[0] in OUTSIDE[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_parent_imports_only_the_rooms_of_stages_that_are_for_it() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files("orchestrator")
        for name, line in imported(file)
        if name.startswith("stages.") and name.split(".")[1] not in FOR_THE_PARENT
    ]
    assert not wrong, "\n".join(wrong)


def test_helpers_are_found_without_changes_of_the_path() -> None:
    """Benches and their helpers are packages, and run as `python -m`."""
    wrong = [
        str(file.relative_to(ROOT))
        for package in ("bench", "devtools")
        for file in files(package)
        if "sys.path.insert" in file.read_text(encoding="utf-8")
    ]
    assert not wrong
