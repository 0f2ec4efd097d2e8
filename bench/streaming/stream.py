"""Streamed weights against resident ones and diffusers' group offloading, at FLUX's full size.

    python -m bench.streaming.stream FOLDER [--out rows.jsonl] [--rows ROW ...] [--minutes 8]
    python -m bench.streaming.stream FOLDER --tiny          the same on a CPU with tiny networks, in
        seconds

FOLDER gets FLUX and ControlNet-Union with random weights, 28.3 GiB, unless it has them. Each row
is one evaluation (ControlNet, then transformer; 8192 image and 1241 text tokens) in a process of
its own, with a hard cap on device memory (context included). Rows:

    rates          bytes per second of the links by themselves
    resident       bf16, all on the card: the baseline
    ours:CAP:HOST  streamed within CAP GiB of device memory and HOST GiB of registered RAM
    every:CAP:HOST the same, with AdaLN's layers in every evaluation instead of once a job
    fp8:CAP:HOST   ours, matrices rounded to float8 (lossy)
    group:CAP      diffusers' group offloading, block level, with a stream
    group-low:CAP  the same with low_cpu_mem_usage

Each row is appended to --out as soon as it is there; `rates` and `resident` of an earlier call are
read from it, so rows can be measured in several calls. Children are forked from this process after
the imports (which must not touch CUDA), as the orchestrator's are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
# Counting devices through NVML leaves CUDA untouched, so that children can be forked.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import diffusers
import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel  # noqa: F401 (warm for children)

from bench.streaming.evaluate import Row, Setup
from bench.streaming.rows import measure
from bench.streaming.weights import FULL_SIZES, TINY_SIZES, write_weights
from orchestrator.system.text import format_table
from stages.streaming.models import READERS

ROWS = (
    "rates",
    "resident",
    "ours:6:30",
    "ours:6:4",
    "every:6:30",
    "ours:12:30",
    "ours:5:30",
    "group:6",
    "group-low:6",
    "ours:8:30",
    "fp8:6:30",
    "ours:6:16",
    "ours:12:4",
    "ours:8:4",
    "ours:5:4",
    "ours:12:16",
    "ours:8:16",
    "ours:5:16",
)
"""The ones that the goals name come first: where time runs out, the last ones are missing."""
ROW_SECONDS = 100.0
FULL_GIB = 28.3


def main() -> int:
    arguments = _arguments()
    began = time.monotonic()
    device = torch.device("cpu" if arguments.tiny else "cuda:0")
    sizes = TINY_SIZES if arguments.tiny else FULL_SIZES
    arguments.folder.mkdir(parents=True, exist_ok=True)
    out: Path = arguments.out or arguments.folder / "rows.jsonl"
    written = _in_child(_weights, (arguments.folder, sizes, device), 240.0)
    print(json.dumps({"weights": written, "s": round(time.monotonic() - began, 1)}), flush=True)
    if "error" in written:
        return 1
    for name in arguments.rows:
        left = arguments.minutes * 60 - (time.monotonic() - began)
        if left < 15:
            print(f"no time left for {name} and what comes after it", flush=True)
            break
        known = _read(out)
        setup = Setup(
            folder=arguments.folder,
            sizes=sizes,
            device=device,
            repeats=arguments.repeats,
            threads=arguments.threads,
            activations=arguments.activations,
            unit=_tiny_unit(arguments.folder) if arguments.tiny else 2.0**30,
            known=known,
        )
        started = time.monotonic()
        row = _parse(name)
        result = {"row": row.name, "kind": row.kind, "cap": row.cap, "host": row.host}
        result |= _in_child(measure, (row, setup), min(ROW_SECONDS, left))
        result |= {
            "threads": arguments.threads,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "row_s": round(time.monotonic() - started, 1),
        }
        with out.open("a") as stream:
            stream.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)
    print(_table(_read(out)))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW")
    parser.add_argument("--out", type=Path, help="default: FOLDER/rows.jsonl")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=READERS, help="that read files")
    parser.add_argument(
        "--activations", type=float, default=2.4, help="GiB, until `resident` has measured them"
    )
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU")
    return parser.parse_args()


def _parse(name: str) -> Row:
    kind, *numbers = name.split(":")
    return Row(kind, *map(float, numbers))


def _weights(folder: Path, sizes: Any, device: torch.device) -> dict[str, Any]:
    return {"written_gib": round(write_weights(folder, sizes, device) / 2**30, 2)}


def _tiny_unit(folder: Path) -> float:
    """Bytes that stand for a GiB, such that the tiny networks count as many as the full ones."""
    size = sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))
    return size / FULL_GIB


def _in_child(work: Any, arguments: tuple[Any, ...], limit: float) -> dict[str, Any]:
    """Run `work(*arguments)` in a process of its own; its dict, or an error, after `limit` s."""
    method = "spawn" if torch.cuda.is_initialized() or sys.platform == "win32" else "fork"
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    try:
        if not ours.poll(limit):
            return {"error": f"took longer than {limit:.0f} s"}
        answer: dict[str, Any] = ours.recv()
        return answer
    except EOFError:
        child.join(5)
        return {"error": f"the process ended with {child.exitcode}"}
    finally:
        child.join(20)
        if child.is_alive():
            child.kill()
            child.join()


def _answer(pipe: Any, work: Any, arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(work(*arguments))
    except Exception as error:  # noqa: BLE001 (a row that fails must not end the table)
        import traceback

        traceback.print_exc()
        pipe.send({"error": f"{type(error).__name__}: {error}"[:300]})
    finally:
        pipe.close()


def _read(out: Path) -> dict[str, dict[str, Any]]:
    """The last good result of each row; of one that never was, the last failure."""
    rows: dict[str, dict[str, Any]] = {}
    if out.is_file():
        for line in out.read_text().splitlines():
            row = json.loads(line)
            if "error" not in row or "error" in rows.get(row["row"], row):
                rows[row["row"]] = row
    return rows


def _table(rows: dict[str, dict[str, Any]]) -> str:
    base = rows.get("resident", {}).get("s_per_eval")
    lines = []
    for name, row in rows.items():
        if row["kind"] == "rates":
            continue

        def cell(key: str, digits: int = 2, row: dict[str, Any] = row) -> str:
            value = row.get(key)
            return "" if value is None else f"{value:.{digits}f}"

        spent = row.get("s_per_eval")
        output = "baseline" if name == "resident" else ""
        if "equal" in row:
            output = "equal" if row["equal"] else f"{row['rel_l2']:.3g}"
        lines.append(
            [
                name,
                cell("s_per_eval", 3),
                f"{spent / base:.2f}" if spent and base else "",
                cell("predicted_s", 3),
                cell("allocated_gib"),
                cell("reserved_gib"),
                cell("nvml_gib"),
                cell("host_gib"),
                cell("pinned_gib"),
                "/".join(map(str, row.get("blocks", []))),
                cell("link_gib"),
                cell("file_gib"),
                cell("compute_wait_s", 3),
                cell("file_wait_s", 3),
                cell("set_up_s", 1),
                row.get("error", output)[:60],
            ]
        )
    heads = "row,s/eval,ratio,model s,alloc,reserved,NVML,host,pinned,card/host/file,link GiB"
    heads += ",file GiB,stall s,read wait s,set-up s,output"
    table = format_table(heads.split(","), lines)
    rates = rows.get("rates", {})
    if "h2d_gbs" in rates:
        reads = ", ".join(f"{n}: {rate:.1f}" for n, rate in rates["read_gbs"].items())
        table += f"\nGB/s: pinned to card {rates['h2d_gbs']:.1f}, pageable to card "
        table += f"{rates['pageable_h2d_gbs']:.1f}; file to pinned by threads {reads}"
    return table


if __name__ == "__main__":
    sys.exit(main())
