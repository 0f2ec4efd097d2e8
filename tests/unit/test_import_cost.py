"""What the command line imports before it has anything to compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes.tools import cli_environment

MODELS = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "pytorch3d"}
GEOMETRY = {"cv2", "numba", "scipy", "skimage", "trimesh"}
LIBRARIES = {"numpy", "pydantic", "rich", "zmq", "msgpack", "yaml", "PIL", "pynvml", "psutil"}

PROGRAM = """
import sys
from orchestrator.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def imported_by(folder: Path, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=cli_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("imported:")
    return set(last.split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help")])
def test_help_imports_next_to_nothing(tmp_path, arguments):
    imported = imported_by(tmp_path, *arguments)
    assert "click" in imported
    assert imported & (MODELS | GEOMETRY | LIBRARIES) == set()


def test_a_plan_imports_no_model_and_no_geometry(tmp_path, picture, config_file):
    imported = imported_by(tmp_path, "plan", str(picture), "--config", str(config_file()))
    assert imported & (MODELS | GEOMETRY) == set()


def test_the_shipped_profiles_can_be_listed_without_a_model(tmp_path):
    imported = imported_by(tmp_path, "stages", "list")
    assert imported & (MODELS | GEOMETRY) == set()


def test_a_whole_run_keeps_models_and_geometry_out_of_the_parent(tmp_path, picture, config_file):
    imported = imported_by(
        tmp_path, "run", str(picture), "--config", str(config_file()), "--output", "out"
    )
    assert "zmq" in imported
    assert imported & (MODELS | GEOMETRY) == set()
