"""YAML and JSON that somebody else wrote, as plain data: bounded before anything is built of it.

Plain data is what JSON can hold: None, bool, int of at most 64 bits, float, str of Unicode, list,
and dict with str as keys. Everything else is a ValueError with a sentence for people. A str
from JSON may hold surrogates: so does a file's name that is no UTF-8.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

YAML_BYTES = 64 << 10
"""PyYAML takes a second for 100 KB; the longest profile has 8."""
YAML_VALUES = 10_000
"""With every alias written out: nine lines of aliases can stand for 10**9 values."""
JSON_BYTES = 64 << 20
DEPTH = 50
"""Lists and mappings inside each other. The deepest profile has 6."""
_INT_BITS = 64


def read_limited(path: Path, limit: int) -> bytes:
    """A file's content. Raises OSError, or ValueError for more than `limit` bytes."""
    with path.open("rb") as stream:
        return limited(stream, limit)


def limited(stream: IO[bytes], limit: int) -> bytes:
    """What is left of a stream. Raises ValueError for more than `limit` bytes."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit >> 10} KiB")
    return content


def yaml_data(text: str) -> Any:
    """What a YAML text says. Raises ValueError.

    A key that is given twice is refused, since one of both would be ignored.
    """
    if len(text) > YAML_BYTES:
        raise ValueError(f"it is longer than {YAML_BYTES >> 10} KiB")
    try:
        data = _Composed(_bounded(text)).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(_told(error)) from error
    _require_plain(data)
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair, which is no character") from None
    return data


def json_data(content: bytes) -> Any:
    """What a JSON document says. Raises ValueError."""
    try:
        data = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"values lie more than {DEPTH} deep in each other") from None
    _require_plain(data)
    return data


class _Composed(Composer, SafeConstructor, Resolver):
    """As yaml.SafeLoader, of what its parser has said already: parsing is what takes long."""

    def __init__(self, events: Iterable[yaml.Event]) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._events = deque(events)

    def check_event(self, *choices: type[yaml.Event]) -> bool:
        return bool(self._events) and isinstance(self._events[0], choices or yaml.Event)

    def peek_event(self) -> yaml.Event:
        return self._events[0]

    def get_event(self) -> yaml.Event:
        return self._events.popleft()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        seen: set[object] = set()
        for key, _ in node.value:
            if key.value != "<<" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f'"{key.value}" is given twice (line {line})')
                seen.add(key.value)
        super().flatten_mapping(node)


def _bounded(text: str) -> list[yaml.Event]:
    """The parser's events. What is deep, endless or too much is refused: nothing is built yet."""
    events: list[yaml.Event] = []
    sizes: dict[str | None, int] = {}  # of finished anchors
    open_nodes: list[tuple[str | None, int]] = []  # (anchor, values before it)
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                raise ValueError(f"*{event.anchor} contains itself")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        if len(open_nodes) > DEPTH:
            raise ValueError(f"values lie more than {DEPTH} deep in each other")
        if count > YAML_VALUES:
            raise ValueError(f"it has more than {YAML_VALUES} values")
        events.append(event)
    return events


def _told(error: yaml.YAMLError) -> str:
    """PyYAML's many lines as one."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return re.sub(r"\s+", " ", str(error))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number to work with")
    return value


def _require_plain(data: Any) -> None:
    level = [data]
    for _ in range(DEPTH + 1):
        if not level:
            return
        level = [inner for value in level for inner in _parts(value)]
    raise ValueError(f"values lie more than {DEPTH} deep in each other")


def _parts(value: Any) -> Iterator[Any]:
    """What a list or mapping holds. Raises ValueError for a value that is not plain."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"a key is a {type(key).__name__}, not text: {str(key)[:80]}")
            yield key
        yield from value.values()
    elif isinstance(value, list):
        yield from value
    elif isinstance(value, int) and value.bit_length() > _INT_BITS:
        raise ValueError(f"an integer has more than {_INT_BITS} bits")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"a value is a {type(value).__name__}")
