"""What a command line imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from devtools.fakes.tools import cli_environment

MODELS = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "pytorch3d"}
GEOMETRY = {"cv2", "numba", "scipy", "skimage", "trimesh"}
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
