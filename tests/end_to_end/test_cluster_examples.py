"""examples/cluster: the files as they are, with the variables set that a cluster sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from devtools.fakes.tools import ROOT, cli_environment

EXAMPLES = ROOT / "examples" / "cluster"
SHARDS = 3
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="they are for sh")


@pytest.fixture
def environment(tmp_path, config_file) -> dict[str, str]:
    """A machine with the program on PATH, four pictures, and what the files leave to set."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "kiss3d-orchestrate"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator "$@"\n')
    program.chmod(0o755)
    pictures = tmp_path / "pictures of mine"
    pictures.mkdir()
    for index in range(1, 5):
        (pictures / f"p{index}.png").write_text(f"{index} {index}")
    environment = cli_environment()
    return {
        **environment,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}",
        "PICTURES": str(pictures),
        "OUTPUT": str(tmp_path / "out"),
        "SHARDS": str(SHARDS),
        "OPTIONS": f"--config {config_file()}",
    }


def slurm(environment: dict[str, str], index: int) -> subprocess.CompletedProcess[str]:
    return call(
        ["bash", str(EXAMPLES / "slurm-array.sh")],
        {**environment, "SLURM_ARRAY_TASK_ID": str(index)},
    )


def container(file: str) -> dict[str, object]:
    job = yaml.safe_load((EXAMPLES / file).read_text())
    (found,) = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def kubernetes(environment: dict[str, str], index: int) -> subprocess.CompletedProcess[str]:
    command = container("kubernetes-job.yaml")["command"]
    return call(command, {**environment, "JOB_COMPLETION_INDEX": str(index)})


def call(command: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    assert isinstance(command, list)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("start", [slurm, kubernetes])
def test_the_tasks_of_a_cluster_do_the_whole_batch_together(start, environment):
    for index in range(SHARDS):
        done = start(environment, index)
        assert done.returncode == 0, done.stderr
    merged = call(container("kubernetes-merge.yaml")["command"], environment)
    assert merged.returncode == 0, merged.stderr
    assert "4 of 4 good" in merged.stderr
    summary = json.loads((Path(environment["OUTPUT"]) / "summary.json").read_text())
    assert [row["state"] for row in summary["shards"]] == ["done"] * SHARDS


@pytest.mark.parametrize("start", [slurm, kubernetes])
def test_a_task_that_counts_from_one_is_refused_at_the_end(start, environment):
    done = start(environment, SHARDS)
    assert done.returncode == 2
    assert "counted from 0" in done.stderr


def test_a_script_that_is_no_task_of_an_array_says_so(environment):
    done = call(["bash", str(EXAMPLES / "slurm-array.sh")], environment)
    assert done.returncode != 0
    assert "no task of an array: sbatch --array=0-2" in done.stderr


def test_the_job_has_as_many_pods_as_its_shards():
    job = yaml.safe_load((EXAMPLES / "kubernetes-job.yaml").read_text())
    values = {one["name"]: one["value"] for one in container("kubernetes-job.yaml")["env"]}
    assert job["spec"]["completionMode"] == "Indexed"
    assert str(job["spec"]["completions"]) == values["SHARDS"]


def test_what_the_jobs_mount_is_claimed_and_filled():
    made = list(yaml.safe_load_all((EXAMPLES / "kubernetes-volumes.yaml").read_text()))
    claims = {one["metadata"]["name"] for one in made if one["kind"] == "PersistentVolumeClaim"}
    (filling,) = (one for one in made if one["kind"] == "Job")
    jobs = [
        filling,
        *(
            yaml.safe_load((EXAMPLES / file).read_text())
            for file in ("kubernetes-job.yaml", "kubernetes-merge.yaml")
        ),
    ]
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for job in jobs
        for volume in job["spec"]["template"]["spec"]["volumes"]
    }
    assert mounted == claims
    pods = [job["spec"]["template"]["spec"] for job in jobs]
    assert {one["image"] for pod in pods for one in pod["containers"]} == {"kiss3d"}


def test_the_merge_behind_a_slurm_array_takes_the_same_program():
    """The two commands at the top of the script, as they are typed."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    script = (EXAMPLES / "slurm-array.sh").read_text()
    merge = 'sbatch --dependency=afterany:$job --wrap "$KISS3D batch merge $OUTPUT"'
    assert f"    {merge}\n" in page
    assert f"#   {merge}\n" in script


def test_a_clone_is_named_by_a_variable(environment, tmp_path):
    launcher = tmp_path / "clone"
    (tmp_path / "bin" / "kiss3d-orchestrate").rename(launcher)
    assert slurm(environment, 0).returncode == 127
    done = slurm({**environment, "KISS3D": str(launcher)}, 0)
    assert done.returncode == 0, done.stderr
