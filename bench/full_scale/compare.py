"""Runs that are held against each other: the monolith, inline stages, prefetch, batches."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.full_scale.bench import (
    TINY_SETS,
    Bench,
    command_line,
    fresh,
    gib,
    manifest,
    run_process,
)
from bench.full_scale.certificate import Request, certify, run
from bench.full_scale.graphs import (
    ON_CPU,
    ON_PYTORCH3D,
    ON_TORCH,
    SKETCH_PRM,
    Rung,
    sketch_isomer,
    write,
)
from orchestrator.record.run_directory import EVENTS
from orchestrator.system.text import format_table
from stages.evaluation.views import psnr

EQUALITY_NODES = ("multiview", "reference", "encode", "flux", "reconstruct")


def monolith(bench: Bench, request: Request) -> bool:
    """The one-process baseline beside what the certificate of the same request has measured."""
    sets = [word for word in request.options(bench) if "=" in str(word)]
    output = fresh(bench.work / f"monolith-{request.profile}" / "out")
    command = [sys.executable, "-m", "bench.full_scale.monolith", bench.image.resolve(), output]
    done = run_process(
        [*command, request.profile, bench.layer(request.profile), bench.device, *sets],
        bench.environment(),
        bench.left,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for row in rows:
        bench.record("monolith", label=request.profile, **row)
    wall = round(done.seconds, 1)
    whole: dict[str, Any] = {
        "code": done.code,
        "wall_s": wall,
        "card_peak_gib": gib(done.watch.card_peak),
    }
    if done.error:
        whole["error"] = done.error
    bench.record("monolith total", label=request.profile, **whole)
    _compare_with_certificates(bench, request.profile, rows, whole)
    return done.code == 0 and not any("error" in row for row in rows)


def _compare_with_certificates(
    bench: Bench, profile: str, rows: list[dict[str, Any]], whole: dict[str, Any]
) -> None:
    """The last certificate of each target, and its ratios to the monolith."""
    known = [json.loads(line) for line in bench.out.read_text().splitlines()]
    nodes = {
        (row["label"], row["node"]): row
        for row in known
        if row["part"] == "certificate" and row["label"].startswith(f"{profile}-")
    }
    totals = {
        row["label"]: row
        for row in known
        if row["part"] == "certificate total" and row["label"].startswith(f"{profile}-")
    }
    labels = sorted(totals)
    header = ["node", "monolith GiB", "left GiB", "seconds"]
    for label in labels:
        header += [f"{label} GiB", "ratio", "seconds"]
    table = []
    for row in rows:
        if "peak_gib" not in row:
            continue
        seconds = row.get("load_s", 0.0) + row.get("compute_s", 0.0)
        cells = [row["node"], _text(row["peak_gib"]), _text(row["left_gib"]), f"{seconds:.1f}"]
        for label in labels:
            ours = nodes.get((label, row["node"]), {})
            spent = ours.get("load_s", 0.0) + ours.get("compute_s", 0.0)
            peak = ours.get("peak_gib")
            cells += [_text(peak), _ratio(peak, row["peak_gib"]), f"{spent:.1f}"]
        table.append(cells)
    cells = ["together", _text(whole["card_peak_gib"]), "", f"{whole['wall_s']:.1f}"]
    for label in labels:
        peak = totals[label]["card_peak_gib"]
        ratio = _ratio(peak, whole["card_peak_gib"])
        wall = totals[label]["wall_s"]
        cells += [_text(peak), ratio, f"{wall:.1f} ({wall / whole['wall_s']:.2f} x)"]
    print(f"\none process against one a stage: {profile}")
    print(format_table(header, [*table, cells]), flush=True)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value and base else "-"


def equality(bench: Bench, request: Request) -> bool:
    """Each GPU node of a run through processes, computed again inline from the same inputs."""
    output, done = run(bench, "equality", replace(request, until="reconstruct"))
    if done.error:
        bench.record("equality", error=done.error)
        return False
    lines = []
    for name in EQUALITY_NODES:
        row = {"node": name, **_again_inline(bench, output, name)}
        bench.record("equality", **row)
        lines.append([name, "yes" if row.get("equal") else "no", str(row.get("differs", ""))])
        if "error" in row:
            lines[-1][2] = row["error"][-80:]
    print("\na stage's process and the same stage inline, same seed")
    print(format_table(("node", "bit-equal", "largest difference"), lines), flush=True)
    return all(line[1] == "yes" for line in lines)


def _again_inline(bench: Bench, output: Path, name: str) -> dict[str, Any]:
    record = manifest(output).nodes[name]
    attempt = record.attempts[-1]
    sets = [f"{key}={json.dumps(value)}" for key, value in attempt.params.items()]
    again = output.parent / f"inline-{name}"
    done = command_line(
        bench, "stage", name, "--run", output, "--inline", "--output", again,
        "--device", bench.device, "--dtype", attempt.dtype,
        *[word for text in sets for word in ("--set", text)],
    )  # fmt: skip
    if done.error:
        return {"error": done.error}
    differences: dict[str, float] = {}
    for artifact, files in record.artifacts.items():
        for file in (entry.file for entry in files):
            if file.endswith(".npy"):
                differences[artifact] = max(
                    differences.get(artifact, 0.0), _difference(output / name / file, again / file)
                )
    return {"equal": not any(differences.values()), "differs": differences}


def _difference(first: Path, second: Path) -> float:
    """0 for equal bits, else the largest absolute difference, infinity for another shape."""
    if first.read_bytes() == second.read_bytes():
        return 0.0
    a, b = np.load(first, allow_pickle=False), np.load(second, allow_pickle=False)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b).max())


def overlap(bench: Bench, request: Request) -> bool:
    """The same run with all overlap, without starting ahead, and with every import in turn."""
    lines, good = [], True
    ways = {"all": (True, True), "not ahead": (False, True), "none": (False, False)}
    for way, (prefetch, warm) in ways.items():
        wanted = replace(request, prefetch=prefetch, warm=warm)
        output, done = run(bench, f"overlap-{way.replace(' ', '-')}", wanted)
        row: dict[str, Any] = {"way": way, "wall_s": round(done.seconds, 1)}
        if done.error:
            good, row["error"] = False, done.error
        else:
            gaps = _gaps(output)
            row |= {"gaps_s": gaps, "mean_gap_s": round(sum(gaps.values()) / max(1, len(gaps)), 2)}
        bench.record("overlap", **row)
        lines.append([way, f"{row['wall_s']:.1f}", str(row.get("mean_gap_s", "-"))])
    print("\noverlap; gap: from a node's end to the start of the node that reads from it")
    print(format_table(("overlap", "run s", "mean gap s"), lines), flush=True)
    return good


def _gaps(output: Path) -> dict[str, float]:
    """Seconds between a node's `done` and the next node's `started`, in order of time."""
    ended, gaps = {}, {}
    from orchestrator.pipeline.graph import Graph

    profile = manifest(output).settings
    from orchestrator.pipeline.profile import Profile

    graph = Graph.from_profile(Profile.model_validate(profile))
    for line in (output / EVENTS).read_text().splitlines():
        event = json.loads(line)
        node = event.get("node", "")
        if event["event"] == "done":
            ended[node] = event["time"]
        elif event["event"] == "started":
            before = [ended[name] for name in graph.upstream(node) if name in ended]
            if before:
                gaps[node] = round(event["time"] - max(before), 3)
    return gaps


def samplers(bench: Bench, request: Request) -> bool:
    """Flux with two evaluations a step and with one, from the same start."""
    first: np.ndarray | None = None
    lines, good = [], True
    for sampler in ("heun", "heun_pec"):
        sets = (*request.sets, f"flux.sampler={sampler}")
        output, done = run(bench, f"samplers-{sampler}", replace(request, until="flux", sets=sets))
        row: dict[str, Any] = {"sampler": sampler}
        if done.error:
            good, row["error"] = False, done.error
        else:
            attempt = manifest(output).nodes["flux"].attempts[-1]
            bundle = np.load(output / "flux" / "bundle.npy", allow_pickle=False)
            row["compute_s"] = round(attempt.timings["compute"], 2)
            if first is None:
                first = bundle
            else:
                everywhere = np.ones(bundle.shape[:2], bool)
                row["psnr_db"] = round(psnr(bundle, first, everywhere), 1)
        bench.record("samplers", **row)
        lines.append([sampler, *(str(row.get(key, "-")) for key in ("compute_s", "psnr_db"))])
    print("\nFlux, and PSNR to the first bundle (which random weights give little meaning)")
    print(format_table(("sampler", "compute s", "PSNR dB"), lines), flush=True)
    return good


def batch(bench: Bench, request: Request, sizes: tuple[int, ...] = (1, 4)) -> bool:
    """Seconds a picture for batches of these sizes."""
    seconds: list[float] = []
    good = True
    for size in sizes:
        folder = fresh(bench.work / f"batch-{size}" / "pictures")
        copies(bench.image, folder, size)
        out = folder.parent / f"{folder.name}-out"
        done = command_line(bench, "batch", folder, "--output", out, *request.options(bench))
        row: dict[str, Any] = {"pictures": size, "wall_s": round(done.seconds, 1)}
        row["s_per_picture"] = round(done.seconds / size, 1)
        if done.error:
            good, row["error"] = False, done.error
        bench.record("batch", **row)
        seconds.append(done.seconds / size)
    print("\nbatches")
    lines = [
        [str(size), f"{spent:.1f}", f"{spent / seconds[0]:.2f}"]
        for size, spent in zip(sizes, seconds, strict=True)
    ]
    print(format_table(("pictures", "s a picture", "ratio"), lines), flush=True)
    return good


def copies(image: Path, folder: Path, count: int) -> None:
    """Pictures that differ by one pixel each, so that none is taken over from another."""
    from PIL import Image

    folder.mkdir(parents=True)
    with Image.open(image) as opened:
        picture = opened.convert("RGBA")
    for number in range(count):
        picture.putpixel((0, 0), (255, 255, 255 - number, 255))
        picture.save(folder / f"{number}.png")


def proper(bench: Bench, request: Request) -> bool:
    """PRM and ISOMER on a bundle of a real object: random weights make noise of a bundle."""
    # pytorch3d takes minutes a picture on a CPU, where the rehearsal would run it.
    rungs: list[Rung] = [ON_CPU] if bench.tiny else [ON_PYTORCH3D, ON_TORCH, ON_CPU]
    good = True
    graphs = {"prm": SKETCH_PRM, "isomer": sketch_isomer(rungs)}
    for name, graph in graphs.items():
        file = write(bench, f"proper-{name}", graph)
        wanted = replace(
            request, profile="none", config=file, steps={}, sets=tiny_sets(bench, graph)
        )
        good = certify(bench, wanted, f"proper {name}") and good
    return good


def tiny_sets(bench: Bench, graph: dict[str, Any]) -> tuple[str, ...]:
    """The rehearsal's sizes for the nodes of a graph whose stages know them."""
    if not bench.tiny:
        return ()
    known = {"reference": "prm.reference", "reconstruct": "prm.reconstruct", "isomer": "isomer"}
    return tuple(
        text
        for text in TINY_SETS
        for node in [text.split(".")[0]]
        if node in known and graph.get(node, {}).get("stage") == known[node]
    )
