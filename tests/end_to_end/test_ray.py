"""`batch --ray` on a cluster of two nodes, which are processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from devtools.fakes import ray_nodes
from devtools.fakes.tools import cli_environment, command, leftovers
from devtools.patience import eventually
from orchestrator.record.run_directory import RunDirectory

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters of one machine"),
]


MARK = "KISS3D_TEST_OF_RAY"
"""In the environment of all processes of these tests: others may work beside them."""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with two cores each, and no card: two shards at once."""
    os.environ[MARK] = str(os.getpid())
    with ray_nodes.opened(2, 2) as made:
        yield made
    del os.environ[MARK]


@pytest.fixture(autouse=True)
def nothing_left(cluster):
    """In place of the check of all tests, which does not know the cluster's own processes."""
    known = {process.pid for process in psutil.process_iter()}
    yield
    eventually(lambda: not working(known))


def working(known):
    """Command lines of the program's own processes, of these tests, that were not there before."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in known and process.environ().get(MARK) == os.environ[MARK]:
                words = " ".join(process.cmdline())
                if "orchestrator" in words or "stages." in words:
                    found.append(words)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def asked(cluster, config_file, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(1, 13):
        (pictures / f"p{index:02}.txt").write_text(f"{index} {index}")
    out = tmp_path / "out"
    return lambda config=None: (
        *("batch", pictures, "--glob", "*.txt", "--config", config or config_file()),
        *("--keep", "all", "--output", out, "--ray", cluster.address),
    )


def digests(folder):
    """Name of a picture -> digest of every artifact of its run."""
    return {
        path.parent.name: {
            f"{name}/{record.file}": record.digest
            for name, node in RunDirectory.open(path.parent).manifest.nodes.items()
            for records in node.artifacts.values()
            for record in records
        }
        for path in folder.glob("**/run.json")
    }


def started(words, tmp_path):
    return subprocess.Popen(
        command(*words),
        cwd=tmp_path,
        env=cli_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_cluster_makes_what_one_machine_makes(kiss3d, asked, tmp_path):
    done = kiss3d(*asked())
    assert done.returncode == 0, done.stderr
    assert "12 of 12 good" in done.stderr
    assert "shards: 3, to do: 3, at once: 2" in done.stderr
    whole = (*asked()[:-4], "--output", tmp_path / "whole")
    assert kiss3d(*whole).returncode == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert leftovers(tmp_path / "out") == []
    events = (tmp_path / "out" / "events.jsonl").read_text()
    told = [json.loads(line) for line in events.splitlines()]
    ended = [(row["job"], row["node"]) for row in told if row["event"] == "done"]
    assert len(ended) == len(set(ended)) == 12 * 3, "every picture and node, of all shards"
    assert {row["shard"] for row in told} == {"0/3", "1/3", "2/3"}
    assert "12 of 12 pictures" in done.stderr
    assert not list((tmp_path / "out").glob(".*")), "no token stays"
    again = kiss3d(*asked(), "--json")
    assert json.loads(again.stdout)["good"] == 12
    merged = kiss3d("batch", "merge", tmp_path / "out")
    assert merged.returncode == 0
    one = kiss3d(*asked()[:-2], "--shard", "1/3")
    assert one.returncode == 0, "and goes on without Ray"


def test_without_a_shared_folder_inputs_and_results_travel(kiss3d, asked, config_file, tmp_path):
    config = config_file(mode="raise", only_for=3.0, flag=str(tmp_path / "once"))
    done = kiss3d(*asked(config), "--stage-in")
    assert done.returncode == 1, done.stderr
    assert "11 of 12 good, 1 failed" in done.stderr, done.stderr
    out = tmp_path / "out"
    again = kiss3d(*asked(config), "--stage-in")
    assert again.returncode == 0, again.stderr
    assert "shards: 3, to do: 1" in again.stderr, "what arrived is gone on with"
    whole = (*asked(config)[:-4], "--output", tmp_path / "whole")
    assert kiss3d(*whole).returncode == 0
    assert digests(out) == digests(tmp_path / "whole")
    records = [
        *out.rglob("*.json"),
        *out.rglob("*.jsonl"),
        *out.rglob("*.csv"),
        *out.rglob("*.html"),
    ]
    assert records
    told = [path for path in records if ".kiss3d-private-" in path.read_text()]
    assert told == [], "no record names a file of the node"
    rows = json.loads((out / "shard-0-of-3" / "summary.json").read_text())["jobs"]
    assert rows[0]["input"] == str(tmp_path / "pictures" / "p01.txt")
    assert rows[0]["run"] == str(out / "shard-0-of-3" / "p01")
    assert kiss3d("resume", out / "shard-0-of-3").returncode == 0
    assert leftovers(out) == []


def test_failed_pictures_cost_themselves_alone(kiss3d, asked, config_file, tmp_path):
    done = kiss3d(*asked(config_file(mode="raise", only_for=3.0)))
    assert done.returncode == 1
    assert "11 of 12 good, 1 failed" in done.stderr
    assert "12 of 12 pictures, 1 failed" in done.stderr
    assert "p03.txt: " in done.stderr


def test_a_lost_worker_and_a_lost_node_lose_nothing(cluster, asked, config_file, tmp_path):
    counter = tmp_path / "count"
    config = config_file(seconds=0.3, count_file=str(counter))
    node = cluster.add_node(num_cpus=2, num_gpus=0)
    driver = started(asked(config), tmp_path)
    eventually(counter.exists)
    workers = [one for one in psutil.process_iter() if "ray::run_shard" in " ".join(_words(one))]
    workers = [one for one in workers if one.environ().get(MARK) == os.environ[MARK]]
    assert workers
    workers[0].kill()
    cluster.remove_node(node, allow_graceful=False)
    said = driver.communicate()[1]
    assert driver.returncode == 0, said
    assert "12 of 12 good" in said
    finished = [RunDirectory.open(path.parent) for path in (tmp_path / "out").glob("*/*/run.json")]
    for run in finished:
        ends = [attempt.outcome for attempt in run.manifest.nodes["trouble"].attempts]
        assert ends.count("done") == 1, "no finished node was done again"


def _words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


HOOK = """
import errno, os
full = {full!r}
real = {{name: getattr(os, name) for name in ("mkdir", "replace")}}
def mkdir(path, *more, **options):
    if {private} and ".kiss3d-private-" in str(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    return real["mkdir"](path, *more, **options)
def replace(source, target, *more, **options):
    if not {private} and str(target).endswith(".npy"):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))
    return real["replace"](source, target, *more, **options)
os.mkdir, os.replace = mkdir, replace
open(full, "a").write("here")
"""


@pytest.mark.parametrize("private", [True, False])
def test_what_a_node_with_a_full_disk_cannot_do_another_does(private, asked, cluster, tmp_path):
    """private: the node's own disk, which a shard needs to begin; else that of the results, for the
    stages' files alone, as a quota of one node's user may be."""
    hook, full = tmp_path / "hook", tmp_path / "full"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK.format(full=str(full), private=private))
    path = os.pathsep.join([str(hook), os.environ["PYTHONPATH"]])
    node = cluster.add_node(num_cpus=2, num_gpus=0, env_vars={"PYTHONPATH": path})
    try:
        driver = started(asked(), tmp_path)
        said = driver.communicate()[1]
    finally:
        cluster.remove_node(node)
    assert full.exists()
    assert driver.returncode == 0, said
    assert "12 of 12 good" in said
    assert "again on " in said
    assert ("No space left on device" if private else "a disk is full there") in said
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_ends_leaves_no_process_and_can_be_gone_on_with(
    how, kiss3d, asked, config_file, tmp_path
):
    before = {process.pid for process in psutil.process_iter()}
    flag = tmp_path / "flag"
    config = config_file(mode="sleep", flag=str(flag), only_for=5.0)
    driver = started(asked(config), tmp_path)
    eventually(flag.exists)
    driver.send_signal(how)
    said = driver.communicate()[1]
    if how == signal.SIGINT:
        assert driver.returncode == 130, said
        assert "the same command goes on with it" in said
    eventually(lambda: not working(before))
    assert kiss3d("batch", "merge", tmp_path / "out").returncode == 1
    again = kiss3d(*asked(config))
    assert again.returncode == 0, again.stderr
    assert "12 of 12 good" in again.stderr


def test_what_cannot_be_is_refused_before_any_shard(kiss3d, asked, tmp_path):
    none = kiss3d(*asked()[:-1], "127.0.0.1:1")
    assert none.returncode == 2
    assert "nobody answers there" in none.stderr
    client = kiss3d(*asked()[:-1], "ray://127.0.0.1:10001")
    assert client.returncode == 2
    assert "no address of a cluster" in client.stderr
    alone = kiss3d(*asked()[:-2], "--stage-in")
    assert alone.returncode == 2
    assert "--stage-in without --ray" in alone.stderr
    both = kiss3d(*asked(), "--shard", "0/3")
    assert both.returncode == 2
    assert "leave --shard out" in both.stderr
    card = kiss3d(*asked()[:2], "--glob", "*.txt", *asked()[6:], "--profile", "full_12gb")
    assert card.returncode == 2
    assert "Ray knows of none" in card.stderr
    assert not (tmp_path / "out").exists()
