"""A hub of one's own for every test here, and nothing of the machine's own weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.fakes.hub import FakeHub, Repository, serve

VAE = {
    "vae/config.json": b'{"a": 1}',
    "vae/diffusion_pytorch_model.safetensors": bytes(range(256)) * 4096,
    "scheduler/scheduler_config.json": b"{}",
    "transformer/config.json": b"not wanted",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Serves Kiss3DGen's repository, and FLUX.1-dev's behind its gate."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("KISS3D_MODELS", raising=False)
    made = FakeHub(
        repositories={
            "LTT/Kiss3DGen": Repository(
                {
                    "flexgen.ckpt": b"flexgen" * 300_000,
                    "rgb_normal.safetensors": b"lora" * 1000,
                    "README.md": b"not wanted",
                }
            ),
            "black-forest-labs/FLUX.1-dev": Repository(
                dict(VAE), refs=("3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",), gated=True
            ),
        }
    )
    with serve(made):
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made
