"""onnxruntime keeps no record of its user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("user", ["stages.models.matting", "stages.models.sketch_net.predict"])
def test_no_id_of_the_machine_is_left_in_the_users_folders(user: str, tmp_path: Path) -> None:
    folders = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = f"import {user}; from stages.models import ort; ort.session_options(1)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**env, **folders})
    assert list(tmp_path.iterdir()) == []
