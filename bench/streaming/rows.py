"""One row of bench/streaming/stream.py, measured in a process of its own."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.streaming.evaluate import (
    BlockTimer,
    Row,
    Setup,
    embedding,
    evaluate,
    load_host,
    load_resident,
    open_nets,
)
from bench.streaming.watch import GIB, Watch, seconds_of, start_device
from stages.contract import StageError
from stages.flux.blocks import FLUX_ONCE
from stages.streaming.cost import Rates, loads, seconds_per_evaluation
from stages.streaming.models import make_blocks, stream
from stages.streaming.net import Net
from stages.streaming.pinned import HostBuffer
from stages.streaming.reader import FileReader, Piece
from stages.streaming.source import open_tensors

MARGIN = 0.15
"""GiB of the cap that are left for fragments."""
CONTEXT_PER_PINNED = 0.0034
"""GiB of device memory for each GiB registered (measured: 0.15 for 44)."""


@dataclass(frozen=True)
class Job:
    """A row, and the GiB that the CUDA context takes."""

    row: Row
    setup: Setup
    context: float


def measure(row: Row, setup: Setup) -> dict[str, Any]:
    """Run a row; the result is ready for JSON. Out of memory is a result, too."""
    result: dict[str, Any] = {"row": row.name, "kind": row.kind, "cap": row.cap, "host": row.host}
    watch = Watch(setup.device)
    result["device"] = watch.device_name
    context = start_device(setup.device, watch)
    result["context_gib"] = context
    if row.cap and setup.device.type == "cuda":
        total = torch.cuda.get_device_properties(setup.device).total_memory
        allowed = row.cap - context - CONTEXT_PER_PINNED * row.host
        torch.cuda.set_per_process_memory_fraction(allowed * GIB / total, setup.device)
    kinds: dict[str, Callable[..., dict[str, Any]]] = {
        "resident": _resident,
        "ours": _ours,
        "every": _ours,
        "fp8": _ours,
        "group": _group,
        "group-low": _group,
        "rates": _rates,
    }
    try:
        result |= kinds[row.kind](Job(row, setup, context))
    except torch.OutOfMemoryError as error:
        result["error"] = f"out of memory: {str(error)[:200]}"
    except StageError as error:
        result["error"] = f"{error.kind}: {error.message}"
    result |= watch.stop()
    return result


def _resident(job: Job) -> dict[str, Any]:
    began = time.perf_counter()
    nets = load_resident(job.setup)
    set_up = time.perf_counter() - began
    on_cuda = job.setup.device.type == "cuda"
    before = torch.cuda.memory_allocated(job.setup.device) / GIB if on_cuda else 0.0
    timer = BlockTimer(nets, job.setup.device)
    result = evaluate(nets, job.setup, reference=False)
    result["set_up_s"] = set_up
    result["weights_gib"] = before
    if on_cuda:
        result["activations_gib"] = result["allocated_gib"] - before
    result["block_seconds"] = timer.seconds()
    return result


def _ours(job: Job) -> dict[str, Any]:
    """Ours. The weights' room is a guess, as activations are: corrected until it works."""
    row, setup, context = job.row, job.setup, job.context
    activations = setup.activations
    if "activations_gib" in setup.known.get("resident", {}):
        activations = setup.known["resident"]["activations_gib"]
    if setup.device.type == "cpu":
        activations, context = 0.0, -MARGIN
    room = row.cap - context - CONTEXT_PER_PINNED * row.host - activations - MARGIN
    # First up to what the plan needs at least, then down while the card says that it is too much.
    step = 0.1
    for attempt in range(10):
        try:
            return _stream_once(row, setup, room) | {"attempts": attempt + 1}
        except StageError as error:
            if error.kind != "out_of_memory" or step < 0 or "host memory" in error.message:
                raise
        except torch.OutOfMemoryError:
            if step > 0 and attempt > 0:
                raise  # less than the plan needs at least would be the next one
            step = -0.3
        room += step
        # Beyond the handler: the exception holds the frames, and these the tensors.
        gc.collect()
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(setup.device)
    raise StageError("out_of_memory", f"no plan for {row.name} fits")


def _stream_once(row: Row, setup: Setup, room: float) -> dict[str, Any]:
    once = row.kind != "every"
    nets = {
        kind: replace(net, once=FLUX_ONCE if once else ()) for kind, net in open_nets(setup).items()
    }
    began = time.perf_counter()
    with stream(
        nets,
        vram_bytes=int(room * setup.unit),
        host_bytes=int(row.host * setup.unit),
        device=setup.device,
        dtype=torch.bfloat16,
        storage="fp8" if row.kind == "fp8" else "full",
        threads=setup.threads,
        enter_card=False,
        embeddings=1,
    ) as streamed:
        modules = {kind: net.module for kind, net in nets.items()}
        streamed.enter_card(lambda name: [embedding(modules[name], setup)])
        set_up = time.perf_counter() - began
        result = evaluate(modules, setup, stats=lambda: streamed.stats)
        plan = streamed.plan
        result |= {
            "set_up_s": set_up,
            "note": streamed.note,
            "vram_weights_gib": room,
            "blocks": [plan.count("card"), plan.count("host"), plan.count("file")],
            "slot_gib": plan.slot_bytes / GIB,
            "pinned_gib": plan.pinned_bytes / GIB,
            "ring_gib": plan.ring_bytes / GIB,
            "predicted_s": _predict(streamed.plan, nets, row, setup),
        }
    return result


def _predict(plan: Any, nets: dict[str, Net], row: Row, setup: Setup) -> float | None:
    """The cost model's opinion, once rates and the blocks' computing times are known."""
    rates, resident = setup.known.get("rates"), setup.known.get("resident")
    if rates is None or resident is None or row.kind not in ("ours", "every"):
        return None
    sizes = [
        block.layout.size
        for name, net in nets.items()
        for block in make_blocks(name, net, torch.bfloat16, "full")
    ]
    reads: dict[str, float] = rates["read_gbs"]
    threads = min(reads, key=lambda count: abs(int(count) - setup.threads))
    rate = Rates(link=rates["h2d_gbs"] * 1e9, file=reads[threads] * 1e9)
    around = resident["s_per_eval"] - sum(resident["block_seconds"])
    seconds = resident["block_seconds"]
    return around + seconds_per_evaluation(
        loads(sizes, plan, seconds), rate, max(plan.slots, 1), plan.ring_bytes
    )


def _group(job: Job) -> dict[str, Any]:
    """diffusers' group offloading, block by block, with a stream."""
    from diffusers.hooks import apply_group_offloading

    began = time.perf_counter()
    nets = load_host(job.setup)
    for net in nets.values():
        apply_group_offloading(
            net,
            onload_device=job.setup.device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=job.setup.device.type == "cuda",
            low_cpu_mem_usage=job.row.kind == "group-low",
        )
    set_up = time.perf_counter() - began
    return evaluate(nets, job.setup) | {"set_up_s": set_up}


def _rates(job: Job) -> dict[str, Any]:
    """Bytes per second of each link by itself: host to card, page cache to registered memory."""
    first = open_tensors(job.setup.folder / "transformer")
    size = int(min(4 * GIB, sum(tensor.nbytes for tensor in first.values())))
    buffer = HostBuffer(size)
    buffer.bytes.zero_()
    result: dict[str, Any] = {"read_gbs": {}}
    if job.setup.device.type == "cuda":
        began = time.perf_counter()
        buffer.register()
        result["register_s_per_gib"] = (time.perf_counter() - began) / (size / GIB)
        result["note"] = buffer.note
    target = torch.empty(size, dtype=torch.uint8, device=job.setup.device)
    device = job.setup.device
    pageable = torch.ones(size // 4, dtype=torch.uint8)
    for _ in range(2):  # the first is a warm-up
        pinned_s = seconds_of(lambda: target.copy_(buffer.bytes, non_blocking=True), device)
        pageable_s = seconds_of(lambda: target[: size // 4].copy_(pageable), device)
    result |= {"h2d_gbs": size / 1e9 / pinned_s, "pageable_h2d_gbs": size / 4e9 / pageable_s}
    pieces, end = [], 0
    for tensor in sorted(first.values(), key=lambda t: (str(t.path), t.offset)):
        if end + tensor.nbytes <= size:
            pieces.append(Piece(tensor.path, tensor.offset, tensor.nbytes, end))
            end += tensor.nbytes
    for threads in (1, 4, 8, 16):
        reader = FileReader(threads)
        host = torch.device("cpu")
        spent = [
            seconds_of(lambda: reader.start(pieces, buffer.view()).result(), host)  # noqa: B023
            for _ in range(3)
        ]
        result["read_gbs"][str(threads)] = end / 1e9 / min(spent)
        reader.close()
    buffer.close()
    return result
