"""Errors on their way from a worker process to its caller."""

import json
from pathlib import Path

import pytest

from orchestrator.api.messages import error_fields, error_from
from orchestrator.commands.pictures import gather
from orchestrator.errors import UnknownNameError, UsageError
from orchestrator.weights.convert import ConversionError


def test_a_kind_that_callers_do_not_know_arrives_as_the_one_above_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        gather(tmp_path, None, False)
    arrived = error_from(json.loads(json.dumps(error_fields(caught.value))))
    assert type(arrived) is UsageError
    assert (arrived.exit_code, str(arrived)) == (2, str(caught.value))
    assert error_from(error_fields(ConversionError("no tensors"))).exit_code == 1


def test_a_known_kind_arrives_with_its_facts() -> None:
    arrived = error_from(error_fields(UnknownNameError("profile", "skech", ["sketch"])))
    assert type(arrived) is UnknownNameError
    assert arrived.name == "skech"
