"""The functions of `kiss3d`: a script, a thread and a notebook get what the command line gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import kiss3d
from devtools.fakes.running import seen, wait_for
from devtools.fakes.tools import ROOT, cli_environment, leftovers
from devtools.import_cost import GEOMETRY, MODELS
from devtools.patience import PATIENCE
from orchestrator.api.request import Request
from orchestrator.commands.subject import subject_of
from orchestrator.planning.options import Options
from orchestrator.record.run_directory import RunDirectory

ROBOT = ROOT / "examples" / "robot.png"


def digests(path: Path) -> dict[str, str]:
    """node/file -> digest of every artifact that a run has made."""
    return {
        f"{name}/{record.file}": record.digest
        for name, node in RunDirectory.open(path).manifest.nodes.items()
        for records in node.artifacts.values()
        for record in records
    }


def test_python_and_the_command_line_record_the_same(kiss3d_cli, picture, config_file, tmp_path):
    one, other = tmp_path / "cli", tmp_path / "python"
    done = kiss3d_cli("run", picture, "--config", config_file(), "--seed", 7, "--output", one)
    assert done.returncode == 0, done.stderr
    run = kiss3d.run(picture, config=config_file(), seed=7, output=other)
    assert digests(one) == digests(other)
    assert digests(one)
    assert run.manifest.settings == RunDirectory.open(one).manifest.settings


@pytest.mark.slow
def test_python_and_the_command_line_make_the_same_to_the_last_bit(kiss3d_cli, tmp_path):
    one, other = tmp_path / "cli", tmp_path / "python"
    few = ("isomer.stage2_steps", 1)
    done = kiss3d_cli(
        *("run", ROBOT, "--profile", "sketch", "--seed", "7", "--output", one),
        *("--set", f"{few[0]}={few[1]}"),
    )
    assert done.returncode == 0, done.stderr
    run = kiss3d.run(ROBOT, profile="sketch", seed=7, output=other, settings=dict([few]))
    assert digests(one) == digests(other)
    assert {name.split("/")[0] for name in digests(other)} >= {"preprocess", "isomer"}
    ours, theirs = run.manifest, RunDirectory.open(one).manifest
    assert (ours.settings, ours.seed, ours.profile) == (
        theirs.settings,
        theirs.seed,
        theirs.profile,
    )
    assert run.files.keys() == {file.name for file in (one / "result").iterdir()}
    mesh = run.mesh
    assert len(mesh.faces) > 1000
    assert mesh.visual.kind == "texture"
    assert run.preview.width > 100


def worker() -> psutil.Process:
    """The one process that works for this one."""
    children = psutil.Process().children()
    (found,) = (child for child in children if "orchestrator.api.worker" in child.cmdline())
    return found


@pytest.fixture
def kiss3d_cli(kiss3d):
    """The fixture of the same work as the package, under a name of its own."""
    return kiss3d


@pytest.fixture
def stuck(picture, config_file, tmp_path):
    """A run that waits in its second stage until it is stopped, and the flag that lets it pass."""
    config = config_file(mode="sleep", flag=str(tmp_path / "flag"))
    out = tmp_path / "out"
    run = kiss3d.start(picture, config=config, output=out)
    wait_for(lambda: seen(out, "started", "trouble"))
    wait_for((tmp_path / "flag").exists)
    return run


def test_a_run_tells_what_happens_and_ends_as_a_run(picture, config_file, tmp_path):
    events = []
    run = kiss3d.run(picture, config=config_file(), output=tmp_path / "out", on_event=events.append)
    assert run.state == "done"
    assert run.done
    assert run.path == tmp_path / "out"
    assert [e.node for e in events if e.kind == "done"] == ["source", "trouble", "sink"]
    assert run.wait() is run
    assert not run.cancel()


def test_events_of_a_run_are_told_in_the_callers_thread(picture, config_file, tmp_path):
    threads = set()
    kiss3d.run(
        picture,
        config=config_file(),
        output=tmp_path / "out",
        on_event=lambda event: threads.add(threading.current_thread()),
    )
    assert threads == {threading.current_thread()}


def test_a_cancelled_run_kills_its_stage_and_can_be_resumed(stuck, tmp_path):
    assert stuck.state == "running"
    stages = worker().children(recursive=True)
    assert stages
    assert stuck.cancel()
    with pytest.raises(kiss3d.InterruptedRunError) as caught:
        stuck.wait(60)
    assert "resume" in caught.value.hint
    assert not [process for process in stages if process.is_running()]
    assert stuck.state == "interrupted"
    assert leftovers(tmp_path) == []
    again = kiss3d.resume(stuck.path)
    assert again.state == "done"
    assert len(again.manifest.nodes["source"].attempts) == 1, "what was finished is kept"


def test_a_worker_that_is_stopped_while_it_begins_ends_as_stopped(picture, config_file, tmp_path):
    """The request and the word to stop lie in its pipe before it looks: it may be starting a
    thread or importing something when it is interrupted."""
    told = Request(
        "run",
        Options(config_file=config_file()),
        subject=subject_of([picture]),
        output=tmp_path / "out",
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orchestrator.api.worker"],
        input=told.line() + b"stop\n",
        capture_output=True,
        env=cli_environment(),
        timeout=PATIENCE,
    )
    assert done.returncode == 130, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["say"], last["type"]) == ("failed", "InterruptedRunError")
    assert done.stderr == b""


def test_a_run_that_is_cancelled_before_it_begins_says_so(picture, config_file, tmp_path):
    run = kiss3d.start(picture, config=config_file(), output=tmp_path / "out")
    run.cancel()
    with pytest.raises(kiss3d.InterruptedRunError) as caught:
        run.wait(PATIENCE)
    assert caught.value.hint
    assert run.state == "interrupted"
    if not (tmp_path / "out").exists():
        assert repr(run) == "<Run stopped before it began>"
        with pytest.raises(kiss3d.InterruptedRunError):
            _ = run.path


def test_two_runs_at_once_in_one_process(picture, config_file, tmp_path):
    """Each waits for the other's stage to have begun: one after the other, neither would end."""
    diary = tmp_path / "diary"
    config = config_file(diary=str(diary), company=2)
    runs = [
        kiss3d.start(picture, config=config, output=tmp_path / f"out{number}", seed=number)
        for number in range(2)
    ]
    assert [run.wait(120).state for run in runs] == ["done", "done"]
    assert len(diary.read_text().splitlines()) == 2


def test_from_a_thread_a_run_works_as_well(picture, config_file, tmp_path):
    ends = []

    def work() -> None:
        ends.append(kiss3d.run(picture, config=config_file(), output=tmp_path / "out").state)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ends == ["done"]


def test_a_failed_run_raises_the_programs_error(picture, config_file, tmp_path):
    with pytest.raises(kiss3d.RunFailedError, match="trouble failed") as caught:
        kiss3d.run(picture, config=config_file(mode="raise"), output=tmp_path / "out")
    assert caught.value.exit_code == 1
    assert kiss3d.Run.open(tmp_path / "out").state == "failed"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"profile": "sketsch"}, kiss3d.UsageError, 'did you mean "sketch"'),
        ({"profile": "sketch", "settings": {"isomer.no": 1}}, kiss3d.UsageError, "no"),
        ({"profile": "sketch", "device": "cuda:77"}, kiss3d.UsageError, "cuda:77"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_made(arguments, error, says, tmp_path):
    with pytest.raises(error, match=says) as caught:
        kiss3d.run(ROBOT, output=tmp_path / "out", **arguments)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_refused_run_has_no_path_but_its_error(tmp_path):
    run = kiss3d.start(tmp_path / "none.png", profile="sketch", output=tmp_path / "out")
    with pytest.raises(kiss3d.UsageError, match="does not exist"):
        _ = run.path
    with pytest.raises(kiss3d.UsageError, match="does not exist"):
        run.wait()
    assert "refused" in repr(run)


def test_what_a_listener_raises_stops_the_run_and_is_raised(picture, config_file, tmp_path):
    def listener(event):
        if event.kind == "done":
            raise LookupError("enough")

    config = config_file(mode="sleep", flag=str(tmp_path / "flag"))
    with pytest.raises(LookupError, match="enough"):
        kiss3d.run(picture, config=config, output=tmp_path / "out", on_event=listener)
    assert kiss3d.Run.open(tmp_path / "out").state == "interrupted"


def test_a_killed_worker_is_told_and_leaves_a_resumable_run(stuck):
    worker().kill()
    with pytest.raises(kiss3d.RunFailedError, match="SIGKILL"):
        stuck.wait(60)
    wait_for(lambda: stuck.state == "interrupted")
    assert kiss3d.resume(stuck.path).state == "done"


CALLER = """
import sys, time, kiss3d
kiss3d.start({picture!r}, config={config!r}, output={out!r})
print("begun", flush=True)
time.sleep(3600)
"""


def test_a_run_ends_with_the_process_that_asked_for_it(picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = str(config_file(mode="sleep", flag=str(tmp_path / "flag")))
    code = CALLER.format(picture=str(picture), config=config, out=str(out))
    with subprocess.Popen(
        [sys.executable, "-c", code], env=cli_environment(), stdout=subprocess.PIPE
    ) as caller:
        wait_for((tmp_path / "flag").exists)
        family = psutil.Process(caller.pid).children(recursive=True)
        caller.kill()
    wait_for(lambda: not [one for one in family if one.is_running()])
    assert kiss3d.Run.open(out).state == "interrupted"
    assert leftovers(tmp_path) == []


def test_ctrl_c_in_a_script_stops_the_run_first_and_names_the_way_on(
    picture, config_file, tmp_path
):
    import signal

    out = tmp_path / "out"
    config = str(config_file(mode="sleep", flag=str(tmp_path / "flag")))
    code = f"import kiss3d; kiss3d.run({str(picture)!r}, config={config!r}, output={str(out)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=cli_environment(), stderr=subprocess.PIPE, text=True
    ) as caller:
        wait_for((tmp_path / "flag").exists)
        caller.send_signal(signal.SIGINT)
        _, said = caller.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert f"kiss3d.resume('{out}') goes on with it" in said
    assert kiss3d.Run.open(out).state == "interrupted"


def test_nothing_heavy_is_imported_into_the_callers_process(picture, config_file, tmp_path):
    code = f"""
import sys, kiss3d
light = {{"numpy", "PIL", "msgpack"}} & set(sys.modules)
kiss3d.plan({str(ROBOT)!r}, profile="sketch")
run = kiss3d.run({str(picture)!r}, config={str(config_file())!r}, output={str(tmp_path / "o")!r})
run.manifest, run.files, repr(run), run._repr_html_()
print(light & {{"numpy"}}, set(sys.modules) & {MODELS | GEOMETRY!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=cli_environment(),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["set()", "set()"]


def test_a_name_that_is_no_utf_8_is_one_like_any_other(config_file, tmp_path):
    if sys.platform != "linux":
        pytest.skip("such names are Linux's")
    picture = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    picture.write_text("1 2 3")
    assert kiss3d.run(picture, config=config_file(), output=tmp_path / "out").state == "done"
