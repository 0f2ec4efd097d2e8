"""How many threads a stage's libraries compute with."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

from orchestrator.processes.environment import child_environment
from stages.process.threads import OWN_SETTING, keep_to


class Library(types.ModuleType):
    """One that is there already, as behind a fork."""

    def __init__(self, name: str, setter: str) -> None:
        super().__init__(name)
        self.threads = 0
        setattr(self, setter, self._set)

    def _set(self, threads: int) -> None:
        self.threads = threads


@pytest.fixture
def libraries(monkeypatch):
    monkeypatch.setenv(OWN_SETTING, "64")
    found = [Library("torch", "set_num_threads"), Library("cv2", "setNumThreads")]
    for library in found:
        monkeypatch.setitem(sys.modules, library.__name__, library)
    return found


def test_libraries_that_are_there_are_told_and_others_will_read_it(libraries):
    keep_to(3)
    assert [library.threads for library in libraries] == [3, 3]
    assert os.environ[OWN_SETTING] == "3"


def test_one_that_is_just_being_imported_is_left_alone(libraries, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    keep_to(2)
    assert libraries[1].threads == 2


def test_torch_takes_as_many_as_it_is_told_before_its_import():
    code = "from stages.process.threads import keep_to; keep_to(1)\n"
    code += "import torch; print(torch.get_num_threads())"
    environment = {**child_environment(), OWN_SETTING: "2"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1"], done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("OPENBLAS_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "PASSIVE")]
)
def test_waiting_threads_burn_no_cores_unless_the_user_says_otherwise(name, value, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    assert child_environment()[name] == value
    monkeypatch.setenv(name, "other")
    assert child_environment()[name] == "other"
