"""A child's one answer, or how it came that there is none."""

from __future__ import annotations

import sys

import pytest

from orchestrator.processes.json_child import NoAnswerError, ask


def test_the_last_line_is_the_answer_whatever_libraries_say_before_it():
    assert ask(["-c", 'print("welcome"); print(\'{"a": 1}\')']) == {"a": 1}


def test_a_refusal_with_an_exit_code_is_an_answer():
    assert ask(["-c", 'print(\'{"error": "no"}\'); raise SystemExit(2)']) == {"error": "no"}


@pytest.mark.parametrize("code", ["", "print('almost')", "print('[1]')", "print(5)"])
def test_anything_else_is_none(code):
    with pytest.raises(NoAnswerError) as caught:
        ask(["-c", code])
    assert (caught.value.how, caught.value.last_words) == ("exit code 0", "")


def test_an_error_is_told_by_its_last_line():
    with pytest.raises(NoAnswerError) as caught:
        ask(["-c", "import torch_of_another_world"])
    assert caught.value.how == "exit code 1"
    assert caught.value.last_words.startswith("ModuleNotFoundError")


def test_a_child_that_does_not_end_is_ended():
    with pytest.raises(NoAnswerError, match="no answer in 1 s"):
        ask(["-c", "import time; time.sleep(60)"], timeout=1.0)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_crash_after_the_answer_is_none():
    """The answer says that a library works, and the library has just crashed."""
    with pytest.raises(NoAnswerError, match=r"SIGKILL \(-9\)"):
        ask(["-c", "import os; print({}, flush=True); os.kill(os.getpid(), 9)"])


def test_modules_of_the_current_folder_are_not_taken_for_libraries(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert ask(["-c", "import numpy; print({})"]) == {}
