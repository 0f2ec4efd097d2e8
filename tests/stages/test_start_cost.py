"""What a stage imports or has compiled while its job waits: nothing that could be there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "examples" / "robot.png"


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cutting_a_picture_out_imports_no_scipy() -> None:
    code = f"""
import sys
from pathlib import Path
from stages.contract import Context
from stages.preprocess.stage import Preprocess, PreprocessParams
for background in ("alpha", "grabcut"):
    stage = Preprocess(PreprocessParams(background=background))
    stage.load(Context())
    stage.run({{"input_image": Path({str(PICTURE)!r}).read_bytes()}}, Context())
print(sorted(name for name in sys.modules if name.split(".")[0] in ("scipy", "skimage", "torch")))
"""
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("name", ["inflate", "hull.reference", "hull.reconstruct", "isomer"])
def test_a_stage_from_the_template_finds_numba_ready(name: str) -> None:
    """Numba imports a hundred modules of its own before a process's first kernel."""
    code = f"""
import importlib, sys
from stages.contract.registry import stage_class
from stages.contract import Context
kind = stage_class({name!r})
for module in kind.preload:
    importlib.import_module(module)
before = set(sys.modules)
kind(kind.Params()).load(Context())
print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] == "numba"))
"""
    assert run_python(code).strip() == "[]"


def test_inflate_compiles_the_rasteriser_when_it_loads() -> None:
    code = """
from stages.contract import Context
from stages.multiview.inflate.stage import Inflate, InflateParams
Inflate(InflateParams()).load(Context())
from stages.geometry.raster import kernels
print(all(k.signatures for k in (kernels.snap_vertices, kernels.draw, kernels.resolve)))
"""
    assert run_python(code).strip() == "True"
