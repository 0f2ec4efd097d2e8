"""When the flux stage compiles its blocks, what it keeps of it, and what it tells."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from devtools.tiny.flux_jobs import context, job_inputs, run
from stages.flux import compiling as module
from stages.flux import engine
from stages.flux.compiling import Compile, Compiling, Expected
from stages.flux.kept_figures import read_figures, write_figures
from stages.flux.params import FluxParams
from stages.models.compiled_blocks import CompiledBlocks


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    monkeypatch.setattr(engine, "cache_folder", lambda: tmp_path / "flux")
    front_end = functools.partial(CompiledBlocks, backend="eager")
    monkeypatch.setattr(engine, "CompiledBlocks", front_end)
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


@pytest.mark.parametrize(
    ("sampler", "placement"),
    [
        ("heun", "resident"),
        ("heun_pec", "streamed"),
        pytest.param("heun", "streamed", marks=pytest.mark.slow),
        pytest.param("heun_pec", "resident", marks=pytest.mark.slow),
    ],
)
def test_compiled_blocks_give_the_bundle(
    inputs: dict[str, np.ndarray], placement: str, sampler: str
) -> None:
    """The front end alone changes no bit; it does run, and says so."""
    said: list[tuple[str, bool]] = []

    def warn(text: str, *, degraded: bool = False) -> None:
        said.append((text, degraded))

    params = {"placement": placement, "sampler": sampler}
    wanted = run(inputs, **params)
    found = run(inputs, context(warn=warn), compile="blocks", **params)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    ((text, degraded),) = said
    assert "ran compiled" in text
    assert not degraded


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"storage": "fp8"}, "storage fp8"),
        ({"transformer": "flux1-dev-fp8", "storage": "file"}, "storage file"),
    ],
)
def test_weights_that_are_cast_by_hooks_are_not_compiled_and_it_is_told(
    inputs: dict[str, np.ndarray], params: dict[str, Any], why: str
) -> None:
    said: list[str] = []
    wanted = run(inputs, **params)
    within = context(warn=lambda text, degraded=False: said.append(text))
    np.testing.assert_array_equal(run(inputs, within, compile="blocks", **params), wanted)
    assert len(said) == 1
    assert why in said[0]
    assert "as ever" in said[0]


def test_auto_changes_nothing_on_a_cpu(inputs: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(run(inputs, compile="auto"), run(inputs))


@pytest.mark.parametrize(
    ("given", "meant"), [(False, "off"), (True, "blocks"), ("auto", "auto"), ("off", "off")]
)
def test_off_is_what_yaml_makes_of_it(given: Any, meant: str) -> None:
    assert FluxParams(compile=given).compile == meant


# --- whether it pays ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "evaluations", "seconds", "pays"),
    [
        ({}, 37, 0.43, False),  # an H100, one picture
        ({}, 37, 11.0, True),  # a 3060
        ({}, 37 * 16, 0.43, True),  # an H100, many pictures
        ({"first": 30.0}, 37, 3.0, True),  # compiled before on this machine
        ({"first": 30.0, "again": 4.0}, 37, 0.43, False),
        ({"first": 30.0, "again": 4.0, "gain": 0.5}, 37, 0.43, True),
        ({"gain": 0.01}, 37, 11.0, False),
    ],
)
def test_it_pays_where_it_saves_more_than_it_takes(
    kept: dict[str, float], evaluations: int, seconds: float, pays: bool
) -> None:
    assert Expected.of(kept).pays(evaluations, seconds) is pays


class Clock:
    """Time as a job of this many seconds an evaluation passes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def job(compiling: Compiling, blocks: CompiledBlocks, clock: Clock, plain: float) -> list[bool]:
    """Ten steps of one evaluation: whether each ran compiled. Compiling takes 20 s, saves half."""
    ran = []
    with compiling.job(10):
        for _ in range(10):
            compiling.before_evaluation()
            ran.append(blocks.active)
            if blocks.active and blocks.seconds == 0.0:
                blocks.seconds = 20.0
                clock.now += 20.0
            clock.now += plain / 2 if blocks.active else plain
            compiling.after_step()
    return ran


def opened(mode: Compile, folder: Path) -> tuple[Compiling, CompiledBlocks]:
    blocks = CompiledBlocks([], ())
    return Compiling(mode, blocks, folder, "figures.json"), blocks


def test_blocks_run_compiled_from_the_second_evaluation_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiling, blocks = opened("blocks", tmp_path)
    clock = Clock(monkeypatch)
    for _ in range(2):
        assert job(compiling, blocks, clock, 0.1) == [False] + [True] * 9
    assert read_figures(tmp_path / "figures.json")["first"] == 20.0


def test_auto_compiles_at_once_where_one_job_pays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiling, blocks = opened("auto", tmp_path)
    ran = job(compiling, blocks, Clock(monkeypatch), 50.0)
    assert ran == [False, False] + [True] * 8
    kept = read_figures(tmp_path / "figures.json")
    assert kept["first"] == 20.0
    assert kept["gain"] == pytest.approx(0.5)


def test_auto_compiles_in_a_batch_once_as_many_are_to_come_as_pay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """10 evaluations of 4 s, 0.15 of it saved: 6 s a job, and 35 to be paid."""
    compiling, blocks = opened("auto", tmp_path)
    clock = Clock(monkeypatch)
    jobs = [job(compiling, blocks, clock, 4.0) for _ in range(8)]
    first = next(number for number, ran in enumerate(jobs) if any(ran))
    assert first == 6
    assert all(any(ran) for ran in jobs[first:])


def test_another_process_knows_what_compiling_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_figures(tmp_path / "figures.json", {"first": 30.0, "again": 1.0, "gain": 0.5})
    compiling, blocks = opened("auto", tmp_path)
    assert any(job(compiling, blocks, Clock(monkeypatch), 4.0))
    kept = read_figures(tmp_path / "figures.json")
    assert (kept["first"], kept["again"]) == (30.0, 20.0)


def test_a_job_that_fails_leaves_nothing_running_compiled(tmp_path: Path) -> None:
    compiling, blocks = opened("blocks", tmp_path)

    def failing() -> None:
        with compiling.job(10):
            for _ in itertools.repeat(None, 2):
                compiling.before_evaluation()
            assert blocks.active
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        failing()
    assert not blocks.active
