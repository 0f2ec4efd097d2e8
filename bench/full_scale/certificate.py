"""The certificate: a profile through the real command line, each node against its target.

Predicted and measured peaks are the manifest's (NVML, context included); the card as a whole and
host memory are watched from outside as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.full_scale.bench import Bench, Finished, command_line, fresh, gib, manifest
from orchestrator.record.manifest import AttemptRow, NodeRecord
from orchestrator.record.run_directory import MANIFEST
from orchestrator.system.text import format_table

HEADER = (
    "node", "on", "tries", "predicted", "peak GiB", "of predicted", "of target", "load s",
    "compute s", "memory", "after s", "host GiB",
)  # fmt: skip
FULL_STEPS = {"flux": 20, "multiview": 50}


@dataclass(frozen=True)
class Request:
    """target, host: GiB, 0 for no limit. steps: node -> fewer steps than the profile's."""

    profile: str
    target: float
    host: float
    steps: dict[str, int]
    sets: tuple[str, ...] = ()
    config: Path | None = None
    until: str = ""
    prefetch: bool = True
    warm: bool = True

    def options(self, bench: Bench) -> list[object]:
        wanted = [f"{node}.steps={count}" for node, count in self.steps.items()]
        wanted += [*self.sets, *([] if self.prefetch else ["runtime.prefetch=false"])]
        options: list[object] = ["--device", bench.device, "--json"]
        if self.config is None:
            options += ["--profile", self.profile]
        options += ["--config", self.config or bench.layer(self.profile)]
        if self.target:
            options += ["--target-vram", self.target]
        if self.host:
            options += ["--host-ram", self.host]
        if self.until:
            options += ["--until", self.until]
        if not self.warm:
            options += ["--no-warm"]
        return options + bench.sets(self.profile, wanted)


def run(bench: Bench, name: str, request: Request, *hidden: Path) -> tuple[Path, Finished]:
    """One subject through the command line; returns its run directory and how it ended."""
    output = fresh(bench.work / name / "run")
    done = command_line(
        bench,
        "run",
        *bench.subject,
        "--output",
        output,
        *request.options(bench),
        first_on_path=hidden,
    )
    return output, done


def certify(bench: Bench, request: Request, part: str = "certificate") -> bool:
    """Run, record a row a node and one for the whole, print the table. Whether all succeeded."""
    label = f"{request.profile}-{request.target:g}"
    output, done = run(bench, f"{part}-{label}", request)
    rows = [] if not (output / MANIFEST).is_file() else node_rows(output, done, request.target)
    for row in rows:
        bench.record(part, label=label, run=str(output), **row)
    total = _total(output, done, request, rows)
    bench.record(f"{part} total", label=label, **total)
    print(f"\n{part}: {label}")
    print(format_table(HEADER, [_cells(row) for row in rows]))
    print(" ".join(f"{key}={value}" for key, value in total.items()) + "\n", flush=True)
    return done.code == 0


def node_rows(output: Path, done: Finished, target: float) -> list[dict[str, Any]]:
    """What the manifest says of each node's last attempt, and of the ones before."""
    return [_row(name, record, done, target) for name, record in manifest(output).nodes.items()]


def _row(name: str, record: NodeRecord, done: Finished, target: float) -> dict[str, Any]:
    if not record.attempts:
        return {"node": name, "state": record.state}
    last = record.attempts[-1]
    peak = gib(last.vram.get("peak", -1))
    predicted = gib(last.predicted.get("vram", -1))
    host = done.watch.host.get(last.pid, -1)
    return {
        "node": name,
        "stage": record.stage,
        "state": record.state,
        "on": f"{'cpu' if last.device == 'cpu' else 'cuda'} {last.dtype}",
        "rung": last.params,
        "tries": len(record.attempts),
        "failed": [f"{row.outcome}: {row.message[:120]}" for row in record.attempts[:-1]],
        "degraded": record.degraded,
        "predicted_gib": predicted,
        "peak_gib": peak,
        "of_predicted": round(peak / predicted, 3) if peak and predicted else None,
        "of_target": round(peak / target, 3) if peak and target else None,
        "load_s": round(_load_seconds(last), 2),
        "compute_s": round(last.timings.get("compute", 0.0), 2),
        "job_s": round(last.seconds, 2),
        "memory": last.vram.get("verdict", ""),
        "release_s": round(last.vram.get("seconds", 0.0), 2),
        "host_gib": gib(host),
        "rss_gib": gib(last.peak_rss),
        "message": last.message[:300],
    }


def _load_seconds(attempt: AttemptRow) -> float:
    return sum(attempt.timings.get(part, 0.0) for part in ("import", "load"))


def _total(
    output: Path, done: Finished, request: Request, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    peaks = [row["peak_gib"] for row in rows if row.get("peak_gib")]
    card = gib(done.watch.card_peak)
    total: dict[str, Any] = {
        "run": str(output),
        "code": done.code,
        "wall_s": round(done.seconds, 1),
        "peak_gib": max(peaks, default=None),
        "card_peak_gib": card,
        "host_peak_gib": gib(done.watch.host_peak),
        "target_gib": request.target,
        "within": bool(card is not None and request.target and card <= request.target),
        "degraded": [row["node"] for row in rows if row.get("degraded")],
    }
    if done.error:
        total["error"] = done.error
    elif request.steps:
        total["steps"] = request.steps
        total["extrapolated_wall_s"] = round(extrapolated(done.seconds, request, rows), 1)
    return total


def extrapolated(wall: float, request: Request, rows: Sequence[dict[str, Any]]) -> float:
    """The wall time with all steps: the compute time of the nodes that did fewer, in proportion.

    More than it would be, since what a node does once is scaled as well.
    """
    reuse = "flux.sampler=heun_pec" in request.sets
    for row in rows:
        count = request.steps.get(row["node"])
        if count and row["node"] in FULL_STEPS:
            wall += row["compute_s"] * (
                _work(row["node"], FULL_STEPS[row["node"]], reuse)
                / _work(row["node"], count, reuse)
                - 1.0
            )
    return wall


def _work(node: str, steps: int, reuse: bool) -> int:
    """Evaluations of the network."""
    if node != "flux":
        return steps
    from stages.flux.params import FluxParams
    from stages.flux.schedule import NoiseLevels

    return NoiseLevels.heun(steps, FluxParams().strength, reuse).evaluations


def _cells(row: dict[str, Any]) -> list[str]:
    if "on" not in row:
        return [row["node"], row["state"], *[""] * (len(HEADER) - 2)]

    def number(key: str, digits: int = 2) -> str:
        value = row[key]
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        row["node"] if row["state"] == "done" else f"{row['node']} {row['state']}",
        row["on"],
        str(row["tries"]),
        number("predicted_gib"),
        number("peak_gib"),
        number("of_predicted"),
        number("of_target"),
        number("load_s", 1),
        number("compute_s", 1),
        row["memory"] or "-",
        number("release_s"),
        number("host_gib"),
    ]
