"""The scripts of `completion`, and what they are answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.fakes.tools import cli_environment, command


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment in which `kiss3d-orchestrate` is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "kiss3d-orchestrate"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m orchestrator "$@"\n')
    script.chmod(0o755)
    environment = cli_environment()
    return {**environment, "PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


def ask(program: dict[str, str], *words: str) -> list[str]:
    done = subprocess.run(
        command(),
        env={
            **program,
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
            "_KISS3D_ORCHESTRATE_COMPLETE": "bash_complete",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def test_commands_options_and_profiles_are_completed(program: dict[str, str]) -> None:
    assert ask(program, "kiss3d-orchestrate", "res") == ["plain,resume"]
    assert "plain,--target-vram" in ask(program, "kiss3d-orchestrate", "run", "--ta")
    assert ask(program, "kiss3d-orchestrate", "run", "--profile", "sk") == ["plain,sketch"]


def test_the_command_for_shards_is_completed(program: dict[str, str]) -> None:
    assert "plain,--shard" in ask(program, "kiss3d-orchestrate", "batch", "--sh")
    assert "plain,merge" in ask(program, "kiss3d-orchestrate", "batch", "me")
    assert "plain,merge" not in ask(program, "kiss3d-orchestrate", "batch", "pict")
    assert ask(program, "kiss3d-orchestrate", "batch", "merge", "--js") == ["plain,--json"]


SHELLS = {
    "bash": "COMP_WORDS=(kiss3d-orchestrate res); COMP_CWORD=1; "
    "_kiss3d_orchestrate_completion kiss3d-orchestrate; echo $COMPREPLY",
    "fish": "complete --do-complete 'kiss3d-orchestrate res'",
    "zsh": "which _kiss3d_orchestrate_completion >/dev/null && echo resume",
}
"""What proves in each shell that the script works, and prints "resume"; zsh has no way to ask
outside of its line editor."""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_its_script(shell: str, program: dict[str, str], tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    script = subprocess.run(
        command("completion", shell), env=program, capture_output=True, text=True, check=True
    )
    assert script.stderr == ""
    before = "autoload -Uz compinit && compinit -D\n" if shell == "zsh" else ""
    file = tmp_path / "script"
    file.write_text(f"{before}{script.stdout}\n{SHELLS[shell]}\n")
    done = subprocess.run([found, file], env=program, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split()[0] == "resume"


def test_another_shell_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(
        command("completion", "tcsh"),
        env=cli_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
