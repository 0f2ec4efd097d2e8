"""The order of sums is fixed where it is asked for, and only there."""

from __future__ import annotations

import subprocess
import sys

import torch

from stages.models.deterministic import any_order, repeatable


def settings() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch._C._get_deterministic_fill_uninitialized_memory(),
    )


def test_on_a_card_sums_have_one_order_but_where_it_does_not_matter() -> None:
    before = settings()
    with repeatable("cuda:0"):
        inside = settings()
        assert inside == (True, True, False), "on, only warning, and nothing written twice"
        with any_order():
            assert not torch.are_deterministic_algorithms_enabled()
        assert settings() == inside
    assert settings() == before


def test_on_the_cpu_nothing_changes() -> None:
    before = settings()
    with repeatable("cpu"), any_order():
        assert not torch.are_deterministic_algorithms_enabled()
    assert settings() == before


def test_settings_come_back_after_an_error() -> None:
    before = settings()
    try:
        with repeatable("cuda:0"), any_order():
            raise ValueError
    except ValueError:
        pass
    assert settings() == before


def test_no_compiler_is_imported() -> None:
    """It would take seconds of every process that refines."""
    program = (
        "import sys, torch; known = set(sys.modules)\n"
        "from stages.models.deterministic import any_order, repeatable\n"
        "with repeatable('cuda:0'), any_order(): pass\n"
        "print(sorted(n for n in set(sys.modules) - known if n.startswith('torch')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
