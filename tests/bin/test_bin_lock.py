"""bin/lock renews requirements/ as a whole, or leaves it as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devtools.fakes.checkout import FakeCheckout, script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for uv is a script")

UV = """
#!/bin/sh
echo "UV_FIND_LINKS=$UV_FIND_LINKS $*" >> "{root}/calls"
case "$*" in
    *"pip compile"*)
        while [ "$1" != -o ]; do shift; done
        echo "renewed==1.0" > "$2" ;;
    *"3.13"*"aarch64-apple"*)
        exit {status} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCheckout:
    monkeypatch.delenv("KISS3D_VENV_CACHE", raising=False)
    monkeypatch.setenv("UV_FIND_LINKS", "/wheels/of/this/machine")
    checkout = FakeCheckout.make(tmp_path)
    checkout.set_up()
    return checkout


def renew(checkout: FakeCheckout, status: int, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit status of bin/lock, what it said on stderr, and the calls of uv, which fails or not."""
    uv = Path(checkout.venv().scripts) / "uv"
    script(uv, UV.format(root=checkout.root, status=status))
    done = checkout.run(*arguments, launcher="lock")
    return done.returncode, done.stderr, (checkout.root / "calls").read_text().splitlines()


def locked(checkout: FakeCheckout) -> dict[str, str]:
    return {file.name: file.read_text() for file in (checkout.root / "requirements").iterdir()}


def test_all_files_are_renewed_after_a_trial_for_every_python_and_platform(
    checkout: FakeCheckout,
) -> None:
    status, said, calls = renew(checkout, 0, "--upgrade")
    assert status == 0, said
    assert locked(checkout) == dict.fromkeys(
        ("run.txt", "web.txt", "ray.txt", "dev.txt", "installer.txt"), "renewed==1.0\n"
    )
    assert sum("pip compile" in call and "--upgrade" in call for call in calls) == 5
    assert sum("pip install" in call for call in calls) == 16


def test_nothing_is_changed_where_a_platform_has_no_wheel(checkout: FakeCheckout) -> None:
    before = locked(checkout)
    status, said, _ = renew(checkout, 1)
    assert status == 1
    assert "requirements/ is left as it was" in said
    assert locked(checkout) == before


def test_wheels_that_only_this_machine_has_are_not_looked_at(checkout: FakeCheckout) -> None:
    _, _, calls = renew(checkout, 0)
    assert calls
    assert not [call for call in calls if "/wheels/of/this/machine" in call]
