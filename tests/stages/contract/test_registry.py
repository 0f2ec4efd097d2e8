"""Stages are found by name: those shipped here, and those that packages register."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.fakes.tools import cli_environment
from orchestrator.errors import ConfigError
from orchestrator.pipeline.layers import node_stage
from orchestrator.pipeline.profile import NodeConfig
from stages.contract import Stage, registry
from stages.contract.registry import BrokenStageError, UnknownStageError, known_stages, stage_class

HEAVY = ("torch", "cv2", "numba", "scipy", "trimesh", "diffusers", "transformers", "pytorch3d")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Callable[..., None]:
    """Install a package `third` that registers `mine`."""

    def install(module: str, entry: str = "mine = third:Mine") -> None:
        (tmp_path / "third.py").write_text(module)
        info = tmp_path / "third-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "third", raising=False)

    return install


GOOD = """
from stages.contract import Stage
class Mine(Stage):
    name, summary, inputs, outputs = "mine", "", (), ()
    def run(self, inputs, context): return {}
"""


def test_a_registered_stage_is_found(package):
    package(GOOD)
    assert stage_class("mine").name == "mine"
    assert "mine" in known_stages()


def test_a_shipped_name_cannot_be_taken_over(package, monkeypatch):
    monkeypatch.setitem(registry.BUILT_IN, "ours", "devtools.fakes.stages:Source")
    package(GOOD, "ours = third:Mine")
    assert stage_class("ours").__module__ == "devtools.fakes.stages"
    assert known_stages().count("ours") == 1


def test_an_unknown_stage_lists_the_known_ones():
    with pytest.raises(UnknownStageError) as caught:
        stage_class("isomr")
    assert "isomer" in caught.value.known
    assert caught.value.known == sorted(caught.value.known)


@pytest.mark.parametrize(
    ("module", "entry", "says"),
    [
        ("import nowhere_to_be_found", "mine = third:Mine", "nowhere_to_be_found"),
        ("def broken(:", "mine = third:Mine", "invalid syntax"),
        ("raise RuntimeError('no licence')", "mine = third:Mine", "no licence"),
        ("", "mine = third:Mine", "no attribute 'Mine'"),
        ("Mine = 5", "mine = third:Mine", "is not a Stage"),
        ("class Mine: pass", "mine = third:Mine", "is not a Stage"),
        (
            GOOD.replace(
                'name, summary, inputs, outputs = "mine", ', "summary, inputs, outputs = "
            ),
            "mine = third:Mine",
            "says no name",
        ),
        (GOOD.replace('"", (), ()', '"", None, ()'), "mine = third:Mine", "as its inputs"),
        (GOOD.replace("def run", "Params = dict\n    def run"), "mine = third:Mine", "has Params"),
        (GOOD.replace("def run", "def runn"), "mine = third:Mine", "does not define run"),
        (GOOD, "mine = third", 'stage "mine"'),
        (GOOD, "mine = not a module!", 'stage "mine"'),
        (GOOD, "mine = elsewhere:Mine", "No module named 'elsewhere'"),
    ],
)
def test_a_broken_stage_is_named_with_its_cause(package, module, entry, says):
    package(module, entry)
    with pytest.raises(BrokenStageError) as caught:
        stage_class("mine")
    assert says in str(caught.value)
    assert '"mine"' in str(caught.value)


def test_a_broken_stage_is_an_error_of_the_profile_that_names_it(package):
    package("raise RuntimeError('no licence')")
    with pytest.raises(ConfigError, match=r"node here: .*no licence"):
        node_stage("here", NodeConfig(stage="mine"))


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_shipped_stage_keeps_the_rules_of_a_contract(name):
    cls = stage_class(name)
    assert issubclass(cls, Stage)
    assert cls.name == name
    assert cls.summary
    for specs in (cls.inputs, cls.outputs):
        assert len({spec.name for spec in specs}) == len(specs)
        assert all(spec.doc for spec in specs)
    assert cls.outputs
    assert all(field.description for field in cls.Params.model_fields.values())
    cls.Params()


def test_reading_the_shipped_contracts_imports_nothing_heavy():
    program = (
        "import sys\nfrom stages.contract import registry\n"
        "for name in registry.BUILT_IN: registry.stage_class(name)\n"
        f"print(*sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli_environment(), cwd=Path(registry.__file__).parent,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_metadata_of_installed_packages_is_read_once(package, monkeypatch):
    """It takes 10 ms, and a plan asks for the class of each of its stages again and again."""
    package(GOOD)
    asked = []
    real = registry.entry_points
    monkeypatch.setattr(registry, "entry_points", lambda **group: asked.append(1) or real(**group))
    for _ in range(5):
        stage_class("mine")
    assert len(asked) == 1
