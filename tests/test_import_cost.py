"""What the command line imports before it has anything to compute."""

from __future__ import annotations

import subprocess
import sys

import pytest

from devtools.fakes.tools import cli_environment
from devtools.import_cost import GEOMETRY, MODELS, imported_by

LIBRARIES = {"numpy", "pydantic", "rich", "msgpack", "yaml", "PIL", "pynvml", "psutil"}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help")])
def test_help_imports_next_to_nothing(tmp_path, arguments):
    imported = imported_by(tmp_path, *arguments)
    assert "click" in imported
    assert imported & (MODELS | GEOMETRY | LIBRARIES) == set()


def test_a_plan_imports_no_model_and_no_geometry(tmp_path, picture, config_file):
    imported = imported_by(tmp_path, "plan", str(picture), "--config", str(config_file()))
    assert imported & (MODELS | GEOMETRY) == set()


def test_the_contracts_of_the_shipped_stages_are_read_without_numpy(tmp_path):
    imported = imported_by(tmp_path, "stages", "list")
    assert imported & (MODELS | GEOMETRY | {"numpy", "PIL"}) == set()


def test_a_whole_run_keeps_models_and_geometry_out_of_the_parent(tmp_path, picture, config_file):
    imported = imported_by(
        tmp_path, "run", str(picture), "--config", str(config_file()), "--output", "out"
    )
    assert "msgpack" in imported
    assert imported & (MODELS | GEOMETRY) == set()


def test_scoring_a_mesh_happens_in_another_process(tmp_path):
    (tmp_path / "face.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    imported = imported_by(tmp_path, "evaluate", "face.obj", "--truth", "face.obj")
    assert imported & (MODELS | GEOMETRY | {"numpy"}) == set()


def test_a_whole_run_imports_nothing_heavy_in_the_parent(picture, config_file, tmp_path):
    code = (
        "import sys\n"
        "from orchestrator.cli import main\n"
        "try:\n"
        f"    main(['run', {str(picture)!r}, '--config', {str(config_file())!r},"
        f" '--output', {str(tmp_path / 'out')!r}])\n"
        "finally:\n"
        "    print(sorted(set(sys.modules) & {'torch', 'diffusers', 'transformers', 'scipy',"
        " 'numba', 'cv2', 'skimage', 'trimesh'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=cli_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
