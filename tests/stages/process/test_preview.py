"""What a stage shows on the way fits into a message, whatever it is."""

from __future__ import annotations

import numpy as np
import pytest

from stages.process.preview import MOST_BYTES, shrunk
from stages.process.wire import MESSAGE_BYTES


@pytest.mark.parametrize(
    ("shape", "small"), [((4, 6), (4, 6)), ((128, 256), (128, 256)), ((512, 1024), (128, 256))]
)
def test_a_picture_is_as_large_as_a_message_allows(shape, small):
    pixels = np.arange(np.prod((*shape, 3)), dtype=np.uint8).reshape(*shape, 3)
    found = shrunk(pixels)
    assert found.shape[:2] == small
    assert found.nbytes <= MOST_BYTES < MESSAGE_BYTES - 1024
    assert (found[0, 0] == pixels[0, 0]).all()


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(pixels):
    with pytest.raises(ValueError, match="not an"):
        shrunk(pixels)
