"""Write a mesh in other formats, in a process of its own (`kiss3d-orchestrate export`).

    python -m stages.export --formats stl,3mf --stem mesh --into DIR -- MESH

Writes into DIR, which must be empty, and prints one JSON object: `files` and `notes`; or `error`,
`hint` and `status` (2: the mesh cannot be used, 1: it cannot be exported so).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from stages.contract import BadInput
from stages.contract.failures import classify, is_disk_full
from stages.contract.mesh_formats import parse_formats
from stages.export.solid import NotClosedError
from stages.export.write import Wanted, files_of


def export(mesh_file: Path, fine_file: Path | None, wanted: Wanted, into: Path) -> dict[str, Any]:
    """Raises BadInput, NotClosedError, OSError."""
    from stages.export.read import read_model

    model = read_model(mesh_file)
    fine = read_model(fine_file) if fine_file is not None else None
    files, notes = files_of(model, fine, wanted)
    rows = []
    for file in files:
        (into / file.name).write_bytes(file.content)
        row = {"name": file.name, "format": file.format, "bytes": len(file.content)}
        if file.faces:
            row |= {"faces": file.faces, "size": list(file.size), "unit": file.unit}
        rows.append(row)
    return {"files": rows, "notes": notes}


def main() -> int:
    parser = argparse.ArgumentParser(prog="stages.export")
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--fine", type=Path)
    parser.add_argument("--formats", type=parse_formats, required=True)
    parser.add_argument("--stem", required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--height", type=float)
    parser.add_argument("--faces", type=int)
    parser.add_argument("--y-up", action="store_true")
    options = parser.parse_args()
    wanted = Wanted(
        options.formats, options.stem, options.height, options.faces, options.y_up, _threads()
    )
    try:
        answer = export(options.mesh, options.fine, wanted, options.into)
    except BadInput as error:
        return _failed(error.message, error.hint, 2)
    except NotClosedError as error:
        return _failed(
            f"{options.mesh} cannot be made watertight: {error}",
            "mend it in a 3D program, or ask for glb, obj or ply, which may be open",
            1,
        )
    except MemoryError:
        return _failed(
            f"{options.mesh} needs more memory than there is", "ask for fewer --faces", 1
        )
    except OSError as error:
        if not is_disk_full(error):
            raise
        return _failed(f"cannot write: {error.strerror}", classify(error).hint, 1)
    print(json.dumps(answer))
    return 0


def _threads() -> int:
    import os

    return max(1, min(os.cpu_count() or 1, 8))


def _failed(error: str, hint: str, status: int) -> int:
    print(json.dumps({"error": error, "hint": hint, "status": status}))
    return status


if __name__ == "__main__":
    sys.exit(main())
