"""Trains the sketch's network.

    python -m training.train --pictures pictures.zip --minutes 9 --total 18 --out run

One schedule of `--total` minutes may be cut into several calls: with `--resume run/state.pt` each
goes on where that file stopped. `--begin sketch_net.safetensors` starts a new schedule from
weights; heads that the file lacks start from scratch. `torchrun --nproc-per-node N -m
training.train ...` trains on N cards: each makes its own batches, gradients are averaged.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.models.sketch_net import SIDE
from stages.models.sketch_net.network import Estimates, SketchNet
from training import cards
from training.batches import Source
from training.losses import losses, total
from training.pictures import load
from training.sheet import draw
from training.validate import Held, held_back, validate

RATE = 1.2e-3
WARM_UP = 300
"""Steps after each start over which the rate rises."""
AVERAGE = 0.9985
AGREE = 20
"""Steps after which the cards agree on the time."""
SEED = 20
HELD_SEED = 1_000_020


@dataclass
class State:
    """A training under way. `run`: `net`, perhaps compiled; `spent`: seconds of the schedule."""

    net: nn.Module
    run: Callable[[Tensor], Estimates]
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    spent: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


def begin(
    device: torch.device, start: Path | None, resume: Path | None, compiled: bool = False
) -> State:
    torch.manual_seed(SEED)
    net: nn.Module = SketchNet().to(device)
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    decayed = [p for p in net.parameters() if p.dim() > 1]
    plain = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}],
        lr=RATE, betas=(0.9, 0.98),
    )  # fmt: skip
    run = torch.compile(net, dynamic=False) if compiled else net
    state = State(net, run, {}, optimizer)
    if start is not None:
        missing, unknown = net.load_state_dict(load_file(start), strict=False)
        if unknown:
            raise ValueError(f"{start} is not of this network: {', '.join(unknown)}")
        print(f"from scratch: {', '.join(missing) or 'nothing'}", flush=True)
    if resume is not None:
        kept = torch.load(resume, map_location=device, weights_only=True)
        net.load_state_dict(kept["net"])
        optimizer.load_state_dict(kept["optimizer"])
        state.step, state.spent = kept["step"], kept["spent"]
        state.average = kept["average"]
    if not state.average:
        state.average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    return state


def keep(state: State, out: Path) -> None:
    """Write what a resume needs, and what the program does: averaged weights as float16."""
    torch.save(
        {
            "net": state.net.state_dict(), "optimizer": state.optimizer.state_dict(),
            "average": state.average, "step": state.step, "spent": state.spent,
        },
        out / "state.pt",
    )  # fmt: skip
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in state.average.items()
    }
    notes = {"step": str(state.step), "spent": f"{state.spent:.1f}"}
    save_file(weights, out / "sketch_net.safetensors", notes)


def step(
    state: State, source: Source, sizes: tuple[int, int, int], rate: float
) -> dict[str, Tensor]:
    """One batch: (scenes of the pool, renders, new scenes) = `sizes`."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    with torch.no_grad():
        batch = source.batch(*sizes)
    picture = batch.picture.contiguous(memory_format=torch.channels_last)
    with torch.autocast(picture.device.type, torch.bfloat16):
        made = state.run(picture)
    terms = losses(made, batch)
    loss = total(terms)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    cards.average_gradients(state.net)
    nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    share = min(AVERAGE, state.step / (state.step + 50.0))
    with torch.no_grad():
        pairs = [(state.average[n], v) for n, v in state.net.state_dict().items()]
        moving = [(a, v) for a, v in pairs if v.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in moving], [v for _, v in moving], 1.0 - share)
        for a, v in pairs:
            if not v.is_floating_point():
                a.copy_(v)
    return {**{name: value.detach() for name, value in terms.items()}, "total": loss.detach()}


def train(given: argparse.Namespace) -> None:
    rank, device = cards.join(given.device)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    state = begin(device, given.begin, given.resume, given.compile)
    # Another seed for every part of the schedule: a resume does not see the same data again.
    seed = given.seed + state.step + 100_003 * rank
    source = Source(load(given.pictures), SIDE, given.pool, seed, device)
    held = None
    if rank == 0:
        test = Source(load(given.pictures, held_back=True), SIDE, 8, HELD_SEED, device)
        held = held_back(test, given.held, given.scenes, given.renders)
    print(f"{time.monotonic() - began:.0f} s until the first step", flush=True)
    sizes = (given.scenes, given.renders, given.fresh)
    start, first = time.monotonic(), state.step
    before, counted = state.spent, 0
    sums: dict[str, Tensor] = {}
    checked = time.monotonic()
    going = True
    while going:
        if cards.count() == 1 or (state.step - first) % AGREE == 0:
            now = time.monotonic()
            late = now - began > given.minutes * 60.0 - given.reserve
            state.spent, stop = cards.agree((before + now - start, float(late)), device)
            going = stop < 0.5
        progress = min(state.spent / (given.total * 60.0), 1.0)
        rate = given.rate * min(1.0, (state.step - first + 1) / WARM_UP)
        rate *= 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress))
        terms = step(state, source, sizes, rate)
        sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
        counted += 1
        if held is not None and (state.step % given.every == 0 or state.step == first + 3):
            row = {"step": state.step, "seconds": state.spent}
            row |= {name: float(value) / counted for name, value in sums.items()}
            sums, counted = {}, 0
            if not math.isfinite(row["total"]):
                raise FloatingPointError(f"the loss is {row['total']} at step {state.step}")
            if time.monotonic() - checked > given.check * 60.0:
                row |= checkup(state, held, out)
                checked = time.monotonic()
            note(state, row, out)
    if held is not None:
        row = {"step": state.step, "seconds": state.spent} | checkup(state, held, out)
        note(state, row, out)
        made = (state.step - first) * (given.scenes + given.renders) * cards.count()
        print(f"{made / (time.monotonic() - start):.0f} pictures a second", flush=True)
        draw(averaged(state), held.batches[0], given.rows, out / "held_back.jpg")
    cards.leave()


def averaged(state: State) -> nn.Module:
    net = SketchNet().to(next(state.net.parameters()).device)
    net.load_state_dict(state.average)
    return net


def checkup(state: State, held: Held, out: Path) -> dict[str, float]:
    keep(state, out)
    return {f"held_{name}": value for name, value in validate(averaged(state), held).items()}


def note(state: State, row: dict[str, float], out: Path) -> None:
    """One more row of log.csv, and on the screen."""
    state.rows.append(row)
    names = list(dict.fromkeys(name for each in state.rows for name in each))
    with (out / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({n: f"{v:.6g}" for n, v in each.items()} for each in state.rows)
    print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="made by training.pictures")
    parser.add_argument("--minutes", type=float, required=True, help="of this call, all included")
    parser.add_argument("--total", type=float, required=True, help="minutes of the whole schedule")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--begin", type=Path, help="sketch_net.safetensors to start from")
    parser.add_argument("--resume", type=Path, help="state.pt of an earlier call")
    parser.add_argument("--rate", type=float, default=RATE, help="of learning, at its highest")
    parser.add_argument("--seed", type=int, default=SEED, help="of the data")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true", help="torch.compile: faster, later")
    parser.add_argument("--scenes", type=int, default=96, help="traced scenes a step")
    parser.add_argument("--renders", type=int, default=32, help="composed renders a step")
    parser.add_argument("--fresh", type=int, default=32, help="scenes traced anew a step")
    parser.add_argument("--pool", type=int, default=6144, help="scenes that are kept")
    parser.add_argument("--held", type=int, default=4, help="batches that are validated on")
    parser.add_argument("--every", type=int, default=200, help="steps between rows of the log")
    parser.add_argument("--check", type=float, default=2.0, help="minutes between validations")
    parser.add_argument("--reserve", type=float, default=8.0, help="seconds for the last pictures")
    parser.add_argument("--rows", type=int, default=16, help="of the sheet")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
