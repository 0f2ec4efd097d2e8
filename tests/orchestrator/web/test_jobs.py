"""The queue, with real worker processes and fake stages."""

from __future__ import annotations

import gc

import psutil
import pytest

import kiss3d
from devtools.fakes.running import seen, wait_for
from devtools.fakes.tools import leftovers
from orchestrator.commands.subject import PICTURE, Subject
from orchestrator.errors import UsageError
from orchestrator.planning.options import Options
from orchestrator.record.run_directory import RunDirectory
from orchestrator.web.actions import Site, listed
from orchestrator.web.jobs import REMEMBERED, Jobs


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "outputs"
    made.mkdir()
    return made


@pytest.fixture
def open_jobs(root):
    opened = []

    def make(at_once=1, waiting=8):
        jobs = Jobs(root, at_once, waiting)
        opened.append(jobs)
        return jobs

    yield make
    for jobs in opened:
        jobs.close()


def of(picture):
    return Subject({PICTURE: picture})


def until_over(*jobs):
    for job in jobs:
        wait_for(lambda job=job: job.over)


def test_a_job_becomes_a_run_in_the_outputs(open_jobs, picture, config_file, root):
    job = open_jobs().submit(of(picture), Options(config_file=config_file()))
    assert (root / job.name / "run.json").is_file(), "made before its turn came"
    until_over(job)
    assert (job.state, job.error) == ("done", "")
    rows, _ = job.progress.rows()
    assert [(row.node, row.state) for row in rows] == [
        ("source", "done"),
        ("trouble", "done"),
        ("sink", "done"),
    ]
    assert leftovers(root) == []


def test_a_run_that_waits_is_listed_as_one_that_waits(
    open_jobs, picture, config_file, root, tmp_path
):
    jobs = open_jobs()
    stuck = config_file(mode="sleep", flag=str(tmp_path / "flag"))
    first = jobs.submit(of(picture), Options(config_file=stuck))
    second = jobs.submit(of(picture), Options(config_file=stuck))
    wait_for((tmp_path / "flag").exists)
    states = {row["run"]: row["state"] for row in listed(Site(root, jobs, None, 1))}
    assert states == {first.name: "running", second.name: "waiting"}


def test_a_queued_run_is_what_the_command_line_would_have_made(
    open_jobs, kiss3d, picture, config_file, root, tmp_path
):
    options = Options(config_file=config_file(), seed=5)
    job = open_jobs().submit(of(picture), options)
    until_over(job)
    done = kiss3d("run", picture, "--config", config_file(), "--seed", 5, "--output", "cli")
    assert done.returncode == 0, done.stderr
    ours = RunDirectory.open(job.path).manifest
    theirs = RunDirectory.open(tmp_path / "cli").manifest
    assert ours.settings == theirs.settings
    assert {n: r.artifacts for n, r in ours.nodes.items()} == {
        n: r.artifacts for n, r in theirs.nodes.items()
    }


def test_jobs_wait_for_their_turn_and_too_many_are_refused(
    open_jobs, picture, config_file, tmp_path
):
    jobs = open_jobs(at_once=1, waiting=2)
    gate = tmp_path / "gate"
    options = Options(config_file=config_file(until=str(gate)))
    first = jobs.submit(of(picture), options)
    wait_for(lambda: first.state == "running")
    second, third = jobs.submit(of(picture), options), jobs.submit(of(picture), options)
    assert [jobs.ahead_of(job) for job in (second, third)] == [0, 1]
    assert [job.name for job in jobs.active()] == [first.name, second.name, third.name]
    with pytest.raises(UsageError, match="waiting already"):
        jobs.submit(of(picture), options)
    assert len(list((tmp_path / "outputs").glob("*/run.json"))) == 3, "nothing is made of it"
    gate.touch()
    until_over(first, second, third)
    assert {job.state for job in (first, second, third)} == {"done"}


def test_a_running_job_is_cancelled_its_stage_dies_and_it_is_resumed(
    open_jobs, picture, config_file, tmp_path
):
    jobs = open_jobs()
    others = psutil.Process().children(recursive=True)
    config = config_file(mode="sleep", flag=str(tmp_path / "flag"))
    job = jobs.submit(of(picture), Options(config_file=config))
    wait_for((tmp_path / "flag").exists)
    family = set(psutil.Process().children(recursive=True)).difference(others)
    assert family
    assert jobs.cancel(job.name)
    until_over(job)
    assert job.state == "interrupted"
    assert not [process for process in family if process.is_running()]
    again = jobs.resume(job.name)
    assert again.name == job.name
    until_over(again)
    assert again.state == "done"
    assert len(RunDirectory.open(job.path).manifest.nodes["source"].attempts) == 1


def test_a_waiting_job_is_cancelled_and_is_an_interrupted_run(
    open_jobs, picture, config_file, tmp_path
):
    jobs = open_jobs()
    options = Options(config_file=config_file(until=str(tmp_path / "gate")))
    first, second = jobs.submit(of(picture), options), jobs.submit(of(picture), options)
    assert jobs.cancel(second.name)
    assert second.state == "interrupted"
    assert kiss3d.Run.open(second.path).state == "interrupted"
    assert not jobs.cancel(second.name)
    assert not jobs.cancel("../outputs")
    (tmp_path / "gate").touch()
    until_over(first)


def test_two_jobs_at_once_where_that_is_allowed(open_jobs, picture, config_file, tmp_path):
    jobs = open_jobs(at_once=2)
    config = config_file(diary=str(tmp_path / "diary"), company=2)
    made = [jobs.submit(of(picture), Options(config_file=config, seed=seed)) for seed in (1, 2)]
    until_over(*made)
    assert [job.state for job in made] == ["done", "done"]


def test_a_failed_job_says_why(open_jobs, picture, config_file):
    job = open_jobs().submit(of(picture), Options(config_file=config_file(mode="raise")))
    until_over(job)
    assert job.state == "failed"
    assert "trouble failed" in job.error


def test_what_run_would_refuse_makes_nothing(open_jobs, root, tmp_path):
    jobs = open_jobs()
    none = tmp_path / "none.png"
    none.write_bytes(b"%PDF-1.7 no picture")
    with pytest.raises(UsageError, match="PDF"):
        jobs.submit(of(none), Options(profile="sketch"))
    with pytest.raises(UsageError):
        jobs.submit(of(tmp_path / "missing.png"), Options(profile="sketch"))
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "..", "../outputs", "a/../b", "/etc", "a//b", "a\\b", "link", "a/b/c"]
)
def test_no_name_of_a_browser_reaches_another_place(name, open_jobs, root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.json").write_text("{}")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="no such run"):
        open_jobs().resume(name)


def test_the_servers_end_leaves_resumable_runs(open_jobs, picture, config_file, tmp_path):
    jobs = open_jobs()
    config = config_file(mode="sleep", flag=str(tmp_path / "flag"))
    options = Options(config_file=config)
    first = jobs.submit(of(picture), options)
    wait_for(lambda: seen(first.path, "started", "trouble"))
    second = jobs.submit(of(picture), options)
    jobs.close()
    assert [kiss3d.Run.open(job.path).state for job in (first, second)] == ["interrupted"] * 2
    (tmp_path / "flag").touch()
    assert kiss3d.resume(second.path).state == "done"


@pytest.mark.slow
def test_memory_stays_flat_over_two_hundred_jobs(open_jobs, picture, config_file):
    """Measured: 24 KiB from the 40th job to the 200th; a job whose events, run or worker stayed
    would keep 100 KiB and more, 16 MiB in all."""
    jobs = open_jobs(at_once=2, waiting=200)
    options = Options(config_file=config_file())
    made = []

    def some(count):
        last = [jobs.submit(of(picture), options) for _ in range(count)]
        until_over(*last)
        assert {job.state for job in last} == {"done"}
        made.extend(job.name for job in last)

    def memory():
        gc.collect()
        return psutil.Process().memory_info().rss

    some(40)
    before = memory()
    while len(made) < 200:
        some(20)
    assert memory() - before < 8 << 20
    assert sum(jobs.job(name) is not None for name in made) <= REMEMBERED + 1
