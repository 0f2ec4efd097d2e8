"""`--caption TEXT`: the user's words instead of a caption model, through real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from devtools.pictures import cutout, disc
from orchestrator.commands import batch_directory
from orchestrator.planning.options import Options

WORDS = 'a "red" vase: 花瓶 🏺, 50% off # \\n'


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A config file whose graph ends in the prompt."""
    path = tmp_path / "described.yaml"
    nodes: dict[str, Any] = {name: {"stage": name} for name in ("preprocess", "caption", "prompt")}
    path.write_text(yaml.safe_dump({"profile": "none", "nodes": nodes}))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vase.png"
    cutout(disc(80)).save(path)
    return path


def test_the_words_become_caption_and_prompt_without_weights(kiss3d, tmp_path, image, described):
    done = kiss3d(
        "run",
        image,
        "--config",
        described,
        "--caption",
        f"  {WORDS}\n",
        "--output",
        "out",
        "--no-warm",
    )
    assert done.returncode == 0, done.stderr
    caption = (tmp_path / "out" / "caption" / "caption.txt").read_text(encoding="utf-8")
    prompt = (tmp_path / "out" / "prompt" / "prompt.txt").read_text(encoding="utf-8")
    assert caption == prompt == WORDS
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["settings"]["nodes"]["caption"]["params"]["text"] == WORDS


def test_a_batch_remembers_the_words(tmp_path):
    options = Options(profile="sketch", caption=WORDS)
    batch_directory.save(batch_directory.Batch(tmp_path, {}, options))
    assert batch_directory.load(tmp_path).options == options


def test_a_profile_without_captions_refuses_the_words(kiss3d, image):
    done = kiss3d("plan", image, "--profile", "sketch", "--caption", "a cup")
    assert done.returncode == 2
    assert "--caption" in done.stderr
    assert "--profile" in done.stderr
    assert "Traceback" not in done.stderr


def test_empty_words_are_refused(kiss3d, image, described):
    done = kiss3d("plan", image, "--config", described, "--caption", " ")
    assert done.returncode == 2
    assert "--caption is empty" in done.stderr


def test_the_configuration_says_where_the_caption_comes_from(kiss3d, described):
    done = kiss3d("config", "show", "--config", described, "--caption", "a cup", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row for row in json.loads(done.stdout)}
    assert rows["nodes.caption.params.text"]["value"] == "a cup"
    assert "--set caption.text" in rows["nodes.caption.params.text"]["source"]
