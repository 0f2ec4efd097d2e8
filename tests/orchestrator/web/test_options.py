"""Who may come in, and what is said where Gradio is missing."""

from __future__ import annotations

import importlib.util
import os

import pytest

from orchestrator.errors import UsageError
from orchestrator.web.options import OVERRIDES, QUIET, WebOptions, read_auth, require_gradio


def test_without_gradio_the_extra_and_both_ways_to_it_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        require_gradio()
    assert "kiss3d-orchestrate[web]" in caught.value.hint
    assert "bin/kiss3d-orchestrate web" in caught.value.hint


def test_gradio_tells_nobody_and_its_own_settings_open_nothing(monkeypatch):
    for name in (*QUIET, *OVERRIDES):
        monkeypatch.setenv(name, "True")
    require_gradio()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not [name for name in OVERRIDES if name in os.environ]


def test_users_are_named_or_stand_in_a_file(tmp_path):
    file = tmp_path / "users"
    file.write_text("# who\nann:a:b\n\n bob:secret \n")
    assert read_auth(["eve:x", str(file)]) == (("eve", "x"), ("ann", "a:b"), ("bob", "secret"))
    assert read_auth([]) == ()


@pytest.mark.parametrize("given", ["nobody", "ann:", ":x", "/no/such/file"])
def test_what_names_no_user_is_refused(given, tmp_path):
    with pytest.raises(UsageError):
        read_auth([given])


def test_a_password_is_never_repeated_in_an_error(tmp_path):
    file = tmp_path / "users"
    file.write_text("ann:one\nann:two\nhunter2\n")
    with pytest.raises(UsageError) as caught:
        read_auth([str(file)])
    assert "hunter2" not in str(caught.value)
    file.write_text("ann:one\nann:two\n")
    with pytest.raises(UsageError, match="ann has two passwords") as caught:
        read_auth([str(file)])
    assert "one" not in caught.value.message.split()


@pytest.mark.parametrize(
    ("options", "local"),
    [({}, True), ({"host": "0.0.0.0"}, False), ({"share": True}, False), ({"host": "::1"}, True)],
)
def test_only_a_page_for_this_machine_is_local(options, local, tmp_path):
    assert WebOptions(tmp_path, **options).is_local is local
