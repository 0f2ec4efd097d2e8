"""Two machines tell whether they have the same weights, without reading all of them."""

from __future__ import annotations

import os

import pytest

from orchestrator.weights.fingerprint import PIECE, fingerprint

SIZE = 4 * PIECE


@pytest.fixture
def weights(tmp_path):
    def make(name: str, content: bytes = bytes(SIZE), file: str = "model.safetensors"):
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        (folder / file).write_bytes(content)
        return folder

    return make


def test_a_copy_of_another_time_is_the_same(weights):
    one, other = weights("one"), weights("other")
    os.utime(other / "model.safetensors", (1, 1))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one / "model.safetensors") == fingerprint(other / "model.safetensors")


@pytest.mark.parametrize("at", [0, SIZE // 2 + 1, SIZE - 1])
def test_other_content_of_the_same_size_is_another(weights, at):
    content = bytearray(SIZE)
    content[at] = 1
    assert fingerprint(weights("one")) != fingerprint(weights("other", bytes(content)))


def test_another_size_name_or_number_of_files_is_another(weights):
    known = {fingerprint(weights("one"))}
    known.add(fingerprint(weights("longer", bytes(SIZE + 1))))
    known.add(fingerprint(weights("named", file="other.safetensors")))
    more = weights("more")
    (more / "config.json").write_text("{}")
    known.add(fingerprint(more))
    known.add(fingerprint(weights("empty", b"")))
    assert len(known) == 5
