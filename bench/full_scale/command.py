"""Everything at full size, in parts that each fit a short session on a GPU machine.

    python -m bench.full_scale build --models M [--folders /dev/shm/m]
    python -m bench.full_scale certificate --models M --targets 12
    python -m bench.full_scale certificate monolith --models M --targets 8 6
    python -m bench.full_scale proper crashes isomer equality --models M
    python -m bench.full_scale overlap batch --models M
    python -m bench.full_scale vram RUN ... --models M --measured "H100 80 GB, torch 2.11, 2026-11"

build        48 GB of checkpoints in M, or where there is room in the other folders
certificate  the profile's graph through the command line, held to each target
monolith     the same models and steps in one process, without a cap
proper       PRM and ISOMER on the bundle of a real object
crashes      a stage that holds 20 GiB is killed, and reads where it must not
isomer       ISOMER with pytorch3d hidden, and broken in its kernel
equality     a stage through its process against the same stage inline
overlap      with and without starting processes ahead, and with cold processes one by one
batch        seconds a picture
samplers     Flux with two evaluations a step, and with one
vram         rows for configs/vram.yaml from run directories

With --tiny every part but `vram` is rehearsed on the CPU in a minute or two.

Every result is a JSON line in --out as soon as it is there; a part that fails, or meets its time
limit, does not end the others.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.full_scale.bench import ROBOT, Bench
from bench.full_scale.certificate import Request

FEW_STEPS = {"flux": 3, "multiview": 5}
"""For what is compared with itself: overlap, batches, equality."""


def main() -> int:
    arguments = _arguments()
    if arguments.parts[0] == "vram":
        return _vram(arguments)
    # A time limit from outside ends what was started, too: processes are waited for in `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    work: Path = arguments.work or arguments.models / "runs"
    work.mkdir(parents=True, exist_ok=True)
    out: Path = arguments.out or work / "results.jsonl"
    until = time.monotonic() + 60 * arguments.minutes
    good = True
    for part in arguments.parts:
        began = time.monotonic()
        limit = min(until, began + 60 * arguments.part_minutes)
        bench = Bench(
            arguments.models, work, out, arguments.tiny, arguments.image, limit, arguments.text
        )
        try:
            good = PARTS[part](bench, arguments) and good
        except Exception as error:  # noqa: BLE001 (the parts behind it are still worth having)
            traceback.print_exc()
            bench.record(part, error=f"{type(error).__name__}: {error}"[:300])
            good = False
        bench.record("part", name=part, seconds=round(time.monotonic() - began, 1))
    return 0 if good else 1


def _build(bench: Bench, arguments: argparse.Namespace) -> bool:
    import torch

    from bench.full_scale import checkpoints
    from bench.full_scale.sizes import PUBLISHED, TINY

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    maker = checkpoints.Maker(TINY if bench.tiny else PUBLISHED, device)
    folders = [bench.models, *arguments.folders]
    names = arguments.only or list(checkpoints.RECIPES)
    places = checkpoints.place(names, folders, published=not bench.tiny)

    def make(slow: bool) -> None:
        for name in [name for name in places if checkpoints.RECIPES[name].slow == slow]:
            if time.monotonic() > bench.until:
                raise TimeoutError(f"no time left for {name}; start again to go on")
            began = time.monotonic()
            size = checkpoints.build(name, places[name], folders[0], maker)
            spent = round(time.monotonic() - began, 1)
            bench.record("build", name=name, gib=round(size / 2**30, 3), seconds=spent)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, (False, True)))
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what is measured next shares the card with this process
    return True


def _certificate(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale.certificate import certify

    good = True
    for target in arguments.targets:
        good = certify(bench, _request(arguments, target)) and good
    return good


def _monolith(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale import compare

    return compare.monolith(bench, _request(arguments, 0.0))


def _proper(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale import compare

    return compare.proper(bench, _request(arguments, arguments.targets[0]))


def _equality(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale import compare

    return compare.equality(bench, _request(arguments, 0.0, FEW_STEPS))


def _overlap(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale import compare

    return compare.overlap(bench, _request(arguments, arguments.targets[0], FEW_STEPS))


def _batch(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale import compare

    request = _request(arguments, arguments.targets[0], FEW_STEPS)
    return compare.batch(bench, request, tuple(arguments.sizes))


def _samplers(bench: Bench, arguments: argparse.Namespace) -> bool:
    from bench.full_scale import compare

    few = {"multiview": FEW_STEPS["multiview"]}
    return compare.samplers(bench, _request(arguments, arguments.targets[0], few))


def _crashes(bench: Bench, _: argparse.Namespace) -> bool:
    from bench.full_scale import faults

    return faults.crashes(bench)


def _isomer(bench: Bench, _: argparse.Namespace) -> bool:
    from bench.full_scale import faults

    return faults.isomer(bench)


PARTS: dict[str, Callable[[Bench, argparse.Namespace], bool]] = {
    "build": _build,
    "certificate": _certificate,
    "monolith": _monolith,
    "proper": _proper,
    "crashes": _crashes,
    "isomer": _isomer,
    "equality": _equality,
    "overlap": _overlap,
    "batch": _batch,
    "samplers": _samplers,
}


def _request(
    arguments: argparse.Namespace, target: float, few: dict[str, int] | None = None
) -> Request:
    chosen = {"flux": arguments.flux_steps, "multiview": arguments.multiview_steps}
    steps = {node: count for node, count in chosen.items() if count}
    sets = list(arguments.sets)
    if arguments.profile == "original":
        # The bf16 weights instead of the fp8 file; and no Qwen2-7B, which is the same in any run.
        sets = ["flux.transformer=flux1-dev-transformer", "prompt.enabled=false", *sets]
    return Request(
        arguments.profile, target, arguments.host_ram, {**(few or {}), **steps}, tuple(sets)
    )


def _vram(arguments: argparse.Namespace) -> int:
    from bench.full_scale import vram

    results = arguments.out or arguments.models / "runs" / "results.jsonl"
    print(vram.rows(list(map(Path, arguments.parts[1:])), results, arguments.measured))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.full_scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("parts", nargs="+", metavar="PART", help=f"vram RUN ..., or of: {' '.join(PARTS)}")
    add("--models", type=Path, default=Path("full-scale"), help="KISS3D_MODELS")
    add("--folders", type=Path, nargs="*", default=[], help="more room for models: linked")
    add("--only", nargs="*", default=[], metavar="MODEL", help="of `build`")
    add("--work", type=Path, help="for runs; default: MODELS/runs")
    add("--out", type=Path, help="JSON lines; default: WORK/results.jsonl")
    add("--image", type=Path, default=ROBOT, help="a picture, or a mesh")
    add("--text", default="", help="words with the image, or in its place")
    add("--minutes", type=float, default=9.0, help="for all parts of this command")
    add("--part-minutes", type=float, default=5.0, help="for each of them")
    add("--profile", default="full_12gb", help="full_12gb, original or optimized_12gb")
    add("--targets", type=float, nargs="+", default=[12.0], metavar="GIB")
    add("--host-ram", type=float, default=0.0, metavar="GIB", help="0: no limit")
    add("--flux-steps", type=int, default=0, help="fewer than the profile's")
    add("--multiview-steps", type=int, default=0)
    add("--set", dest="sets", action="append", default=[], metavar="NODE.PARAM=VALUE")
    add("--sizes", type=int, nargs="+", default=[1, 4], help="of the batches")
    add("--measured", default="this machine", help="of `vram`: on what, and when")
    add("--tiny", action="store_true", help="rehearse with tiny networks on the CPU")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if arguments.parts[0] != "vram" and unknown:
        parser.error(f"unknown part {unknown[0]}; known: {' '.join(PARTS)}, vram")
    arguments.models = arguments.models.resolve()
    return arguments


if __name__ == "__main__":
    sys.exit(main())
