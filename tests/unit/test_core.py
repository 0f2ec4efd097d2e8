"""What holds for every stage before it is asked to load."""

from __future__ import annotations

import pytest

from stages.contract import Context, StageError
from stages.core import StageCore
from stages.registry import BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_stage_sees_float16_on_the_cpu(name: str) -> None:
    with pytest.raises(StageError, match=f"{name} cannot compute in float16") as caught:
        StageCore(name, 0).load({}, Context(dtype="float16"))
    assert caught.value.kind == "bad_input"
    assert "bfloat16" in caught.value.hint
