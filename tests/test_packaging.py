"""What the code imports is declared, and what the program reads is in the wheel."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("kiss3d", "orchestrator", "stages")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def normalised(distribution: str) -> str:
    """A distribution's name as the packaging specifications compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0]) for text in requirements}


def imported(file: Path) -> Iterator[str]:
    """The top-level names that a file imports, wherever in it, type checking included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def third_party_imports(*folders: str) -> dict[str, str]:
    """Name of every module that is neither ours nor Python's, and one file that imports it."""
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    launcher = {entry.stem for entry in (ROOT / "bin").iterdir()}
    known = {*sys.stdlib_module_names, *OURS, "bench", "devtools", "training", *launcher}
    return {
        name: str(file.relative_to(ROOT))
        for file in files
        for name in imported(file)
        if name not in known
    }


PACKAGE_OF = {"pxr": "usd-core"}
"""Of modules whose optional package need not be installed."""
COMES_WITH = {"triton": "torch"}
"""Modules that a declared package brings along where it can use them: whoever imports them does
without where they are absent."""


def undeclared(imports: dict[str, str], requirements: list[str]) -> dict[str, str]:
    provided_by = packages_distributions()
    allowed = declared(requirements)
    return {
        module: file
        for module, file in imports.items()
        if not allowed
        & {
            normalised(name)
            for name in (
                *provided_by.get(module, [PACKAGE_OF.get(module, module)]),
                COMES_WITH.get(module, module),
            )
        }
    }


def test_every_import_of_the_program_is_declared() -> None:
    project = PYPROJECT["project"]
    optional = [text for extra in project["optional-dependencies"].values() for text in extra]
    assert undeclared(third_party_imports(*OURS), project["dependencies"] + optional) == {}


def test_every_import_of_the_tests_is_declared() -> None:
    groups = PYPROJECT["dependency-groups"]
    tools = [
        line for line in groups["dev"] + groups["ray"] + groups["web"] if isinstance(line, str)
    ]
    requirements = PYPROJECT["project"]["dependencies"] + tools
    assert undeclared(third_party_imports("tests", "devtools"), requirements) == {}


def test_every_requirement_has_a_lower_and_an_upper_bound() -> None:
    for requirement in PYPROJECT["project"]["dependencies"]:
        version = requirement.partition(";")[0]
        assert "==" in version or (">=" in version and "<" in version), requirement


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this checkout as `pip install .` would."""
    from hatchling.builders.wheel import WheelBuilder

    folder = str(tmp_path_factory.mktemp("dist"))
    [file] = WheelBuilder(str(ROOT)).build(directory=folder, versions=["standard"])
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_the_wheel_holds_all_profiles_modules_and_templates_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    modules = {
        str(file.relative_to(ROOT)) for folder in OURS for file in (ROOT / folder).rglob("*.py")
    }
    profiles = {f"orchestrator/configs/{file.name}" for file in (ROOT / "configs").glob("*.yaml")}
    templates = {
        str(file.relative_to(ROOT)) for file in (ROOT / "orchestrator/report/templates").iterdir()
    }
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert profiles
    assert templates
    assert modules | profiles | templates <= names
    [weights] = [name for name in names if name.endswith(".safetensors")]
    assert weights == "stages/models/sketch_net/sketch_net.safetensors"
    assert 1_000_000 < wheel.getinfo(weights).file_size <= 16_000_000
    assert {Path(name).parts[0] for name in names} == set(OURS)
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_has_the_entry_point_and_the_licence(wheel: zipfile.ZipFile) -> None:
    [entry_points] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert b"kiss3d-orchestrate = orchestrator.cli:main" in wheel.read(entry_points)
    assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
