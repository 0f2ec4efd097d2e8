"""One row of bench/stream.py, measured in a process of its own."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.stream_watch import GIB, Watch, seconds_of, start_device
from bench.stream_weights import Sizes, on_meta
from stages.common.streaming.cost import Rates, loads, seconds_per_evaluation
from stages.common.streaming.models import FLUX_BLOCKS, Net, make_blocks, stream
from stages.common.streaming.pinned import HostBuffer
from stages.common.streaming.reader import FileReader, Piece
from stages.common.streaming.source import open_tensors
from stages.contract import StageError

MARGIN = 0.15
"""GiB of the cap that are left for fragments."""
CONTEXT_PER_PINNED = 0.0034
"""GiB of device memory for each GiB registered (measured: 0.15 for 44)."""


@dataclass(frozen=True)
class Row:
    """kind: resident, ours, fp8, group, group-low, rates. cap, host: GiB, 0 for none."""

    kind: str
    cap: float = 0.0
    host: float = 0.0

    @property
    def name(self) -> str:
        return ":".join([self.kind, *(f"{x:g}" for x in (self.cap, self.host) if x)])


@dataclass(frozen=True)
class Setup:
    """What all rows share. unit: bytes that stand for a GiB (less than one when rehearsing).

    known: results of rows before this one, by name.
    """

    folder: Path
    sizes: Sizes
    device: torch.device
    repeats: int
    threads: int
    activations: float
    unit: float
    known: dict[str, dict[str, Any]]


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
    nets = _load_resident(job.setup)
    set_up = time.perf_counter() - began
    on_cuda = job.setup.device.type == "cuda"
    before = torch.cuda.memory_allocated(job.setup.device) / GIB if on_cuda else 0.0
    timer = _BlockTimer(nets, job.setup.device)
    result = _evaluate(nets, job.setup, reference=False)
    result["set_up_s"] = set_up
    result["weights_gib"] = before
    if on_cuda:
        result["activations_gib"] = result["allocated_gib"] - before
    result["block_seconds"] = timer.seconds()
    return result


def _ours(job: Job) -> dict[str, Any]:
    """Ours. Should the guess of the activations be too low, give the weights less and go on."""
    row, setup, context = job.row, job.setup, job.context
    activations = setup.activations
    if "activations_gib" in setup.known.get("resident", {}):
        activations = setup.known["resident"]["activations_gib"]
    if setup.device.type == "cpu":
        activations, context = 0.0, -MARGIN
    room = row.cap - context - CONTEXT_PER_PINNED * row.host - activations - MARGIN
    for attempt in range(4):
        try:
            return _stream_once(row, setup, room - 0.3 * attempt) | {"attempts": attempt + 1}
        except torch.OutOfMemoryError:
            if attempt == 3:
                raise
        # Beyond the handler: the exception holds the frames, and these the tensors.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setup.device)
    raise AssertionError("unreachable")


def _stream_once(row: Row, setup: Setup, room: float) -> dict[str, Any]:
    nets = _open(setup)
    began = time.perf_counter()
    with stream(
        nets,
        vram_bytes=int(room * setup.unit),
        host_bytes=int(row.host * setup.unit),
        device=setup.device,
        dtype=torch.bfloat16,
        storage="fp8" if row.kind == "fp8" else "full",
        threads=setup.threads,
    ) as streamed:
        set_up = time.perf_counter() - began
        modules = {kind: net.module for kind, net in nets.items()}
        result = _evaluate(modules, setup, stats=lambda: streamed.stats)
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
    if rates is None or resident is None or row.kind != "ours":
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
    nets = _load_host(job.setup)
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
    return _evaluate(nets, job.setup) | {"set_up_s": set_up}


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


def _evaluate(
    nets: dict[str, Any],
    setup: Setup,
    reference: bool = True,
    stats: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Median seconds, peaks, and how the output compares to the resident one's."""
    inputs = _inputs(setup)
    output = _one(nets, inputs)
    before = stats() if stats else None
    spent = []
    for _ in range(setup.repeats):
        spent.append(seconds_of(lambda: _one(nets, inputs), setup.device))
    result: dict[str, Any] = {"s_per_eval": median(spent), "s_all": spent}
    if stats is not None and before is not None:
        after = stats()
        result |= {
            "link_gib": (after.link_bytes - before.link_bytes) / setup.repeats / GIB,
            "file_gib": (after.file_bytes - before.file_bytes) / setup.repeats / GIB,
            "file_wait_s": (after.file_wait_s - before.file_wait_s) / setup.repeats,
            "compute_wait_s": (after.compute_wait_s - before.compute_wait_s) / setup.repeats,
            "surprises": after.surprises,
        }
    if setup.device.type == "cuda":
        result["allocated_gib"] = torch.cuda.max_memory_allocated(setup.device) / GIB
        result["reserved_gib"] = torch.cuda.max_memory_reserved(setup.device) / GIB
    return result | _compare(output.float().cpu(), setup.folder / "resident.safetensors", reference)


def _compare(output: torch.Tensor, path: Path, reference: bool) -> dict[str, Any]:
    from safetensors.torch import load_file, save_file

    finite = bool(torch.isfinite(output).all())
    if not reference:
        save_file({"output": output}, path)
        return {"finite": finite}
    if not path.is_file():
        return {"finite": finite}
    wanted = load_file(path)["output"]
    return {
        "finite": finite,
        "equal": torch.equal(output, wanted),
        "rel_l2": float((output - wanted).norm() / wanted.norm()),
    }


@torch.no_grad()
def _one(nets: dict[str, Any], inputs: dict[str, Any]) -> torch.Tensor:
    shared, control = inputs["shared"], inputs["control"]
    double, single = nets["controlnet"](conditioning_scale=0.6, **control, **shared)
    (velocity,) = nets["transformer"](
        controlnet_block_samples=double, controlnet_single_block_samples=single, **shared
    )
    return velocity


def _inputs(setup: Setup) -> dict[str, Any]:
    sizes, device = setup.sizes, setup.device
    generator = torch.Generator().manual_seed(7)
    config = sizes.transformer

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, torch.bfloat16)

    tokens = sizes.image_tokens
    ids = torch.zeros(tokens, 3, device=device)
    ids[:, 1] = torch.arange(tokens, device=device) // 128
    ids[:, 2] = torch.arange(tokens, device=device) % 128
    shared = {
        "hidden_states": random(1, tokens, config["in_channels"]),
        "encoder_hidden_states": random(1, sizes.text_tokens, config["joint_attention_dim"]),
        "pooled_projections": random(1, config["pooled_projection_dim"]),
        "timestep": torch.tensor([0.5], device=device, dtype=torch.bfloat16),
        "guidance": torch.tensor([3.5], device=device),
        "img_ids": ids,
        "txt_ids": torch.zeros(sizes.text_tokens, 3, device=device),
        "return_dict": False,
    }
    control = {
        "controlnet_cond": random(1, tokens, config["in_channels"]),
        "controlnet_mode": torch.tensor([[1]], device=device),
    }
    return {"shared": shared, "control": control}


def _open(setup: Setup) -> dict[str, Net]:
    return {
        kind: Net(on_meta(setup.sizes, kind), open_tensors(setup.folder / kind), FLUX_BLOCKS)
        for kind in setup.sizes.kinds
    }


def _load_host(setup: Setup) -> dict[str, Any]:
    from diffusers import FluxControlNetModel, FluxTransformer2DModel

    kinds = {"controlnet": FluxControlNetModel, "transformer": FluxTransformer2DModel}
    return {
        kind: kinds[kind]
        .from_pretrained(setup.folder / kind, torch_dtype=torch.bfloat16, local_files_only=True)
        .requires_grad_(False)
        .eval()
        for kind in setup.sizes.kinds
    }


def _load_resident(setup: Setup) -> dict[str, Any]:
    """Everything on the device, shard by shard."""
    from safetensors.torch import load_file

    if setup.device.type == "cpu":
        return _load_host(setup)
    nets = _open(setup)
    for net in nets.values():
        for path in sorted({tensor.path for tensor in net.tensors.values()}):
            for name, tensor in load_file(path, device=str(setup.device)).items():
                owner, _, leaf = name.rpartition(".")
                parameter = torch.nn.Parameter(tensor, requires_grad=False)
                net.module.get_submodule(owner).register_parameter(leaf, parameter)
    return {kind: net.module for kind, net in nets.items()}


class _BlockTimer:
    """Seconds that each block computes, by events around its forward."""

    def __init__(self, nets: dict[str, Any], device: torch.device) -> None:
        self._events: list[list[Any]] = []
        self._cuda = device.type == "cuda"
        for net in nets.values():
            for name in FLUX_BLOCKS:
                for block in net.get_submodule(name):
                    pair: list[Any] = [None, None]
                    self._events.append(pair)
                    block.register_forward_pre_hook(self._mark(pair, 0))
                    block.register_forward_hook(self._mark(pair, 1))

    def _mark(self, pair: list[Any], which: int) -> Callable[..., None]:
        def mark(*_: Any) -> None:
            if self._cuda:
                pair[which] = torch.cuda.Event(enable_timing=True)
                pair[which].record()
            else:
                pair[which] = time.perf_counter()

        return mark

    def seconds(self) -> list[float]:
        """Of the last evaluation, which has to be over."""
        if self._cuda:
            return [first.elapsed_time(last) / 1e3 for first, last in self._events]
        return [last - first for first, last in self._events]
