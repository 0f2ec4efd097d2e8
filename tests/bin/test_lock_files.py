"""requirements/ holds exact versions with hashes, complete and within pyproject.toml's ranges."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = {
    "run": PYPROJECT["project"]["dependencies"],
    "web": PYPROJECT["dependency-groups"]["web"],
    "ray": PYPROJECT["dependency-groups"]["ray"],
    "dev": [
        *PYPROJECT["dependency-groups"]["ray"],
        *PYPROJECT["dependency-groups"]["web"],
        *(line for line in PYPROJECT["dependency-groups"]["dev"] if isinstance(line, str)),
    ],
    "installer": PYPROJECT["dependency-groups"]["installer"],
}
"""The files of requirements/, and what pyproject.toml says of each."""

PLACES = [
    {
        **default_environment(),
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": platform,
        "platform_machine": machine,
        "platform_system": system,
        "os_name": "nt" if platform == "win32" else "posix",
    }
    for minor in range(11, 15)
    for platform, system, machine in [
        ("linux", "Linux", "x86_64"),
        ("linux", "Linux", "aarch64"),
        ("win32", "Windows", "AMD64"),
        ("darwin", "Darwin", "arm64"),
    ]
]
"""Every supported Python and platform, as markers see it."""


class Entry(NamedTuple):
    """A package of a lock file."""

    package: Requirement
    hashes: list[str]

    @property
    def version(self) -> str:
        [exact] = self.package.specifier
        assert exact.operator == "==", self.package
        return exact.version


def entries(text: str) -> list[Entry]:
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    split = [line.split("--hash=") for line in lines if not line.startswith("#")]
    return [Entry(Requirement(first), [word.strip() for word in rest]) for first, *rest in split]


def installed_in(place: dict[str, str], locked: list[Entry]) -> dict[str, str]:
    """The versions that an installation there takes, by normalised name."""
    taken = [
        entry
        for entry in locked
        if entry.package.marker is None or entry.package.marker.evaluate(place)
    ]
    versions = {canonicalize_name(entry.package.name): entry.version for entry in taken}
    assert len(versions) == len(taken), "a package is there twice"
    return versions


def misfits(needed: list[str], locked: list[Entry]) -> set[str]:
    """Requirements that the entries leave out somewhere, or fulfil with another version."""
    return {
        str(requirement)
        for place in PLACES
        for versions in [installed_in(place, locked)]
        for requirement in map(Requirement, needed)
        if requirement.marker is None or requirement.marker.evaluate(place)
        if not fits(requirement, versions)
    }


def fits(requirement: Requirement, versions: dict[str, str]) -> bool:
    version = versions.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


@pytest.fixture(params=NEEDED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def test_every_requirement_is_locked_within_its_range_on_every_python_and_platform(
    name: str, text: str
) -> None:
    assert misfits(NEEDED[name], entries(text)) == set(), "`bin/lock` renews requirements/"


def test_a_lock_that_has_drifted_from_pyproject_is_noticed() -> None:
    locked = entries(
        "a==2.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n"
        "b==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:00\n"
    )
    assert misfits(["a>=2,<3", "b; sys_platform == 'linux'"], locked) == set()
    assert misfits(["a>=2.1", "B", "c"], locked) == {"a>=2.1", "B", "c"}


def test_every_package_has_one_exact_version_and_hashes(text: str) -> None:
    for entry in entries(text):
        assert entry.version
        assert entry.hashes, entry.package
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in entry.hashes)


def test_no_address_or_path_of_an_index_or_a_file_is_in_it(text: str) -> None:
    code = re.sub(r"^#    bin/lock$", "", text, flags=re.MULTILINE)
    assert not re.findall(r".*(?:[/\\]\w|://|@ |--(?!hash=)).*", code)


@pytest.mark.parametrize(
    ("below", "above"),
    [("run", "web"), ("run", "ray"), ("run", "dev"), ("web", "dev"), ("ray", "dev")],
)
def test_what_lies_on_top_changes_nothing_that_the_program_runs_with(
    below: str, above: str
) -> None:
    lower, upper = (
        entries((ROOT / "requirements" / f"{file}.txt").read_text()) for file in (below, above)
    )
    for place in PLACES:
        program, tools = installed_in(place, lower), installed_in(place, upper)
        assert {key: program[key] for key in tools.keys() & program} == {
            key: tools[key] for key in tools.keys() & program
        }


@pytest.mark.parametrize("name", ["ray", "web"])
def test_the_launchers_and_pip_bring_the_same_for_an_extra(name: str) -> None:
    extra = PYPROJECT["project"]["optional-dependencies"][name]
    assert extra == PYPROJECT["dependency-groups"][name]


def test_what_a_locked_package_needs_is_locked_too(name: str, text: str) -> None:
    """The installers are told to take nothing else. Those that are installed here are asked."""
    versions = installed_in(default_environment(), entries(text))
    for package, version in versions.items():
        try:
            found = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        if found.version != version:
            continue
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert fits(requirement, versions), f"{package} needs {requirement}"
