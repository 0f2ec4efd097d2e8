"""YAML and JSON of others: bounded before anything is built, and plain data at the end."""

from __future__ import annotations

import time

import pytest

from orchestrator.system.reading import DEPTH, YAML_BYTES, json_data, yaml_data

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
REFUSED = {
    "alias bomb": (LAUGHS, "more than 10000 values"),
    "itself": ("a: &a [*a]", "contains itself"),
    "merged into itself": ("a: &a {<<: *a}", "contains itself"),
    "deep list": ("[" * 5000, "deep in each other"),
    "deep mapping": ("{a: " * 5000, "deep in each other"),
    "long": ("x" * (YAML_BYTES + 1), "longer than"),
    "huge decimal": ("1" + "0" * 5000, "integer"),
    "huge hexadecimal": ("0x" + "f" * 5000, "64 bits"),
    "twice": ("a: 1\nb: 2\na: 3", '"a" is given twice (line 3)'),
    "date": ("2026-01-01", "a value is a date"),
    "no date": ("2026-13-45", "month"),
    "binary": ("!!binary aGk=", "a value is a bytes"),
    "set": ("!!set {a}", "a value is a set"),
    "number as a key": ("{1: 2}", "a key is a int"),
    "no key at all": ("{[a]: 2}", "unhashable"),
    "half a pair": (r'"\ud800"', "surrogate"),
    "python object": ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "not closed": ("{a: [1", "line 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_yaml_that_is_no_plain_data_is_refused_with_a_sentence(case: str) -> None:
    text, says = REFUSED[case]
    with pytest.raises(ValueError, match=r".") as caught:
        yaml_data(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_alias_bomb_is_not_built_first() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="values"):
        yaml_data(LAUGHS)
    assert time.process_time() - began < 60.0  # 0.001 as it is; 9**11 values would take hours


def test_aliases_and_merges_of_an_honest_file_work() -> None:
    text = "base: &base {x: 1, y: 2}\nmore: {<<: *base, y: 3}\nsame: *base"
    assert yaml_data(text)["more"] == {"x": 1, "y": 3}
    assert yaml_data(text)["same"] == {"x": 1, "y": 2}
    assert yaml_data("18446744073709551615") == 2**64 - 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2),
        b"NaN",
        b"[-Infinity]",
        b"1e999",
        b"1" + b"0" * 5000,
        b"1" + b"0" * 30,
        b'"\xff"',
        b"",
        b"{",
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)
def test_json_that_is_no_plain_data_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_data(content)


def test_json_keeps_the_name_of_a_file_that_is_no_utf8() -> None:
    assert json_data(rb'{"a": "caf\udce9"}') == {"a": "caf\udce9"}
