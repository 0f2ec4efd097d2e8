"""What streaming costs on cards that were not measured, by the cost model (docs/streaming.md).

    python -m bench.streaming.model [--compute 11] [--cap 12] [--activations 2.4] [--context 0.7]

Prints seconds per evaluation of FLUX with ControlNet-Union (bf16, 8192 image tokens) for two
links, two kinds of file and three sizes of host memory, as a ratio to the card's own computing
time. Nothing here is a measurement.
"""

from __future__ import annotations

import argparse

from bench.streaming.weights import BLOCKS, FULL_SIZES, on_meta
from orchestrator.system.text import format_table
from stages.flux.blocks import FLUX_BLOCKS, FLUX_ONCE
from stages.streaming.cost import Rates, loads, seconds_per_evaluation
from stages.streaming.tiers import BlockSize, plan_tiers

GIB = 2**30
LINKS = {"PCIe 4.0 x8": 13.0, "PCIe 4.0 x16": 25.0}
"""GB/s from pinned memory that cards commonly reach."""
FILES = {"page cache": 8.0, "NVMe 3 GB/s": 3.0}
"""GB/s; the page cache as several threads copy from it on a desktop."""
HOSTS = {16: 8.0, 32: 22.0, 64: 50.0}
"""GiB of RAM: GiB that can be pinned beside the system and the page cache's minimum."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--compute", type=float, default=11.0, help="seconds, weights resident")
    parser.add_argument("--cap", type=float, default=12.0, help="GiB of device memory")
    parser.add_argument("--activations", type=float, default=2.4, help="GiB")
    parser.add_argument("--context", type=float, default=0.7, help="GiB")
    arguments = parser.parse_args()
    blocks, shares, rest = _sizes()
    seconds = [share * arguments.compute for share in shares]
    vram = int((arguments.cap - arguments.activations - arguments.context) * GIB)
    rows = []
    for ram, pinned in HOSTS.items():
        plan = plan_tiers(blocks, rest, vram, int(pinned * GIB))
        tiers = "/".join(str(plan.count(tier)) for tier in ("card", "host", "file"))
        for link, link_rate in LINKS.items():
            for file, file_rate in FILES.items():
                rates = Rates(link_rate * 1e9, file_rate * 1e9)
                spent = seconds_per_evaluation(
                    loads(blocks, plan, seconds), rates, max(plan.slots, 1), plan.ring_bytes
                )
                ratio = f"{spent / arguments.compute:.2f}"
                rows.append([f"{ram} GB", link, file, tiers, f"{spent:.1f}", ratio])
    print(format_table(["RAM", "link", "file", "card/host/file", "s/eval", "ratio"], rows))


def _sizes() -> tuple[list[BlockSize], list[float], int]:
    """Blocks, each one's share of the computing time, and bytes of everything else.

    Without AdaLN's layers, which are computed once a job. Double and single blocks compute about as
    long as each other: a double block has twice the weights, but each token passes half of them.
    The ControlNet's projections count for nothing.
    """
    blocks, shares, rest = [], [], 0
    for kind in FULL_SIZES.kinds:
        model = on_meta(FULL_SIZES, kind)
        rest += sum(2 * parameter.numel() for parameter in model.parameters())
        for name in BLOCKS[kind]:
            for block in model.get_submodule(name):
                whole = sum(2 * parameter.numel() for parameter in block.parameters())
                size = whole - sum(
                    2 * parameter.numel()
                    for path, parameter in block.named_parameters()
                    if path.rpartition(".")[0] in FLUX_ONCE
                )
                blocks.append(BlockSize(size, size, size))
                shares.append(1.0 if name in FLUX_BLOCKS else 0.0)
                rest -= whole
    total = sum(shares)
    return blocks, [share / total for share in shares], rest


if __name__ == "__main__":
    main()
