"""Messages survive the way through bytes; whatever else arrives is refused with a reason."""

from __future__ import annotations

import math
import pickle
import typing

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.process import protocol
from stages.process.protocol import ProtocolError

MESSAGES = [
    protocol.Hello(stage="isomer", pid=4711, protocol=protocol.VERSION, warm=True),
    protocol.Ready(timings={"spawn": 0.5, "import": 1.25}),
    protocol.Progress(job="mug", step=3, total=20, note="bereit – 準備"),
    protocol.Preview(job="mug", name="step-3", height=1, width=2, pixels=bytes(range(6))),
    protocol.Heartbeat(rss=1 << 40, vram=-1),
    protocol.Done(
        job="mug",
        outputs={
            "mesh": [
                protocol.Part(file="mesh.vertices.npy", size=12, start=0),
                protocol.Part(file="m", size=7, temp=".m"),
            ],
            "glb": [],
        },
        timings={"compute": 0.25},
        peaks={"rss": 5},
    ),
    protocol.Failed(
        job="",
        kind="crashed",
        message="it broke",
        hint="mend it",
        traceback="Traceback",
        fatal=True,
        peaks={"a": 1},
    ),
    protocol.Prepare(params={"steps": 5}, limit=1 << 40),
    protocol.Load(
        device="cuda:0",
        gpu="GPU-1",
        dtype="float16",
        params={"deep": {"list": [1, 2.5, None]}},
        threads=2,
    ),
    protocol.Run(
        job="mug",
        inputs={"image": ["/a b/c.npy"], "alpha": []},
        folder="/run",
        scratch="/tmp",
        seed=0,
    ),
    protocol.Exit(),
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.binary(max_size=2), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TYPES = sorted(type(message).__name__.lower() for message in MESSAGES)
FIELDS = sorted({field for message in MESSAGES for field in vars(message)})


def packed(**fields: object) -> bytes:
    return msgpack.packb(fields)


def is_message_or_refused(data: bytes) -> None:
    try:
        message = protocol.decode(data)
    except ProtocolError:
        return
    assert isinstance(message, protocol.Message)


def test_every_message_type_is_tried_here():
    assert {type(message) for message in MESSAGES} == set(typing.get_args(protocol.Message))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message):
    assert protocol.decode(protocol.encode(message)) == message


@given(data=st.binary(max_size=80))
@settings(deadline=None)
def test_any_bytes_are_a_message_or_refused(data):
    is_message_or_refused(data)


@given(
    body=st.dictionaries(st.sampled_from(FIELDS) | st.binary(max_size=2), VALUES, max_size=8),
    kind=st.sampled_from(TYPES) | VALUES,
)
@settings(deadline=None, max_examples=200)
def test_any_map_is_a_message_or_refused(body, kind):
    is_message_or_refused(msgpack.packb({**body, "type": kind}))


@pytest.mark.parametrize("name", ["gr\udcc3\udcb6\udcc3\udc9fe", "caf\udce9", "größe"])
def test_names_whose_bytes_are_no_text_here_come_back_as_they_are(name):
    """Under LC_ALL=C the first is how Python spells "größe" in UTF-8."""
    message = protocol.Run(
        job=name, inputs={"image": [f"/{name}/a.png"]}, folder=f"/{name}", scratch="/tmp", seed=7
    )
    assert protocol.decode(protocol.encode(message)) == message


@given(index=st.integers(0, len(MESSAGES) - 1), data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_message_with_one_wrong_value_is_a_message_or_refused(index, data):
    body = msgpack.unpackb(protocol.encode(MESSAGES[index]))
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(VALUES)
    is_message_or_refused(msgpack.packb(body))


@pytest.mark.parametrize("depth", [900, 1000, 5000])
def test_nesting_as_deep_as_it_goes_is_refused(depth):
    with pytest.raises(ProtocolError):
        protocol.decode(b"\x91" * depth + b"\xc0")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (packed(type="exit", more=1), "exit.more: Extra inputs are not permitted"),
        (packed(type="heartbeat", rss=1), "heartbeat.vram: Field required"),
        (
            packed(type="heartbeat", rss="much", vram=1),
            "heartbeat.rss: Input should be a valid integer",
        ),
        (
            packed(type="heartbeat", rss=True, vram=1),
            "heartbeat.rss: Input should be a valid integer",
        ),
        (
            packed(type="heartbeat", rss=1.0, vram=1),
            "heartbeat.rss: Input should be a valid integer",
        ),
        (packed(type="ready", timings=[1]), "ready.timings: Input should be a valid dictionary"),
        (
            packed(type="ready", timings={"a": "1"}),
            "ready.timings.a: Input should be a valid number",
        ),
        (
            packed(type="ready", timings={"a": True}),
            "ready.timings.a: Input should be a valid number",
        ),
        (
            packed(type="ready", timings={"a": math.nan}),
            "ready.timings.a: Input should be a finite number",
        ),
        (
            packed(type="ready", timings={"a": -math.inf}),
            "timings.a: Input should be a finite number",
        ),
        (packed(type="ready", timings={b"a": 1.0}), "[key]: Input should be a valid string"),
        (
            packed(type="done", job="", timings={}, peaks={}, outputs={"mesh": [{"file": "a"}]}),
            "done.outputs.mesh.0.size: Field required",
        ),
        (
            packed(
                type="done", job="", timings={}, peaks={},
                outputs={"mesh": [{"file": "a", "size": 1, "path": "/"}]},
            ),
            "done.outputs.mesh.0.path: Extra inputs are not permitted",
        ),
        (
            packed(type="done", job="", timings={}, peaks={}, outputs={"mesh": ["a"]}),
            "done.outputs.mesh.0: Input should be a valid dictionary",
        ),
        (
            packed(
                type="done", job="", timings={}, peaks={}, outputs={"mesh": [{}] * 100_000}
            ),
            "done.outputs.mesh.0.file: Field required",
        ),
        (
            packed(type="ready", timings=dict.fromkeys(map(str, range(9999)))),
            "9999 fields are wrong",
        ),
        (packed(type="part", file="a", size=1), "not a known message"),
        (packed(rss=1), "not a known message"),
        (msgpack.packb([1, 2]), "not a known message"),
        (protocol.encode(protocol.Exit()) + b"\x01", "not a msgpack message"),
        (protocol.encode(MESSAGES[0])[:-1], "not a msgpack message"),
        (b"", "not a msgpack message"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(data, says):
    with pytest.raises(ProtocolError) as caught:
        protocol.decode(data)
    assert says in str(caught.value)


def test_a_fault_is_told_of_a_name_that_is_no_text():
    message = protocol.Ready(timings={"caf\udce9": 1.0})
    with pytest.raises(ProtocolError, match="valid number"):
        protocol.decode(protocol.encode(message).replace(msgpack.packb(1.0), b"\xc3"))


def test_whole_numbers_are_welcome_where_seconds_are_meant():
    message = protocol.decode(packed(type="ready", timings={"load": 2}))
    assert message == protocol.Ready(timings={"load": 2.0})
    assert type(message.timings["load"]) is float


def test_fields_with_a_default_may_be_left_out():
    body = packed(type="progress", job="mug", step=1, total=2)
    assert protocol.decode(body) == protocol.Progress(job="mug", step=1, total=2, note="")


def test_a_pickle_is_not_a_message():
    with pytest.raises(ProtocolError):
        protocol.decode(pickle.dumps(MESSAGES[0]))


def test_only_plain_values_can_be_sent():
    with pytest.raises(TypeError):
        protocol.encode(
            protocol.Load(
                device="cpu", gpu="", dtype="float32", params={"what": object()}, threads=1
            )
        )
