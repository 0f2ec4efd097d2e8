"""What the driver says about the cards, and what is concluded from it. NVML is a stand-in here."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.planning.cards import choose_cards
from orchestrator.system import gpu
from orchestrator.system.gpu import MIB, GpuMonitor, Ledger, visible_indices

GIB = 1 << 30
UUIDS = ["GPU-aa11", "GPU-aa22", "GPU-bb33"]


@dataclass
class FakeCard:
    uuid: str
    name: str = "Toy 12"
    total: int = 12 * GIB
    used: int = 500 * MIB
    processes: dict[int, int | None] = field(default_factory=dict)
    broken: bool = False


class NvmlError(Exception):
    pass


class FakeNvml(types.ModuleType):
    """As much of pynvml as the monitor calls; a card is its own handle."""

    def __init__(self, cards: list[FakeCard], init_error: str = "") -> None:
        super().__init__("pynvml")
        self.cards = cards
        self.init_error = init_error

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init_error:
            raise NvmlError(self.init_error)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "999.1"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetName(self, card: FakeCard) -> str:  # noqa: N802
        return card.name

    def nvmlDeviceGetUUID(self, card: FakeCard) -> str:  # noqa: N802
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card: FakeCard) -> types.SimpleNamespace:  # noqa: N802
        if card.broken:
            raise NvmlError("GPU is lost")
        return types.SimpleNamespace(total=card.total, used=card.used)

    def nvmlDeviceGetComputeRunningProcesses(self, card: FakeCard) -> list:  # noqa: N802
        if card.broken:
            raise NvmlError("GPU is lost")
        return [
            types.SimpleNamespace(pid=pid, usedGpuMemory=used)
            for pid, used in card.processes.items()
        ]


@pytest.fixture(autouse=True)
def no_choice_of_cards(monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def cards(monkeypatch) -> list[FakeCard]:
    cards = [FakeCard(uuid) for uuid in UUIDS]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(cards))
    return cards


@pytest.fixture
def clock(monkeypatch):
    """clock.now() of the ledger: clock.now."""
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(gpu.clock, "now", lambda: clock.now)
    return clock


def test_the_cards_are_listed_with_what_is_free(cards):
    cards[1].used = 3 * GIB
    monitor = GpuMonitor()
    assert (monitor.why_not, monitor.driver) == ("", "999.1")
    assert [card.uuid for card in monitor.gpus()] == UUIDS
    assert monitor.gpus()[1].free == 9 * GIB


def test_the_users_choice_of_cards_is_kept(cards, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert [card.index for card in GpuMonitor().gpus()] == [2, 0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bb33")
    assert [card.index for card in GpuMonitor().gpus()] == [2]


def test_a_card_that_does_not_tell_its_memory_is_still_a_card(cards):
    cards[0].broken = True
    found = GpuMonitor().gpus()
    assert [card.uuid for card in found] == UUIDS
    assert (found[0].total, found[0].free) == (0, 0)
    assert found[1].total == 12 * GIB


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (None, "nvidia-ml-py is not installed"),
        (FakeNvml([], "Driver Not Loaded"), "NVML: Driver Not Loaded"),
        (FakeNvml([]), "the driver lists no GPU"),
    ],
)
def test_without_nvml_there_are_no_cards_and_the_reason_is_told(monkeypatch, module, why):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monitor = GpuMonitor()
    assert monitor.why_not == why
    assert monitor.gpus() == []
    assert monitor.used(0) == monitor.process_memory(0, [1]) == -1
    assert not monitor.lists(0, 1)


def test_a_card_that_nvml_does_not_know_is_not_taken_for_the_last_one(cards):
    cards[-1].processes[7] = GIB
    monitor = GpuMonitor()
    assert monitor.used(-1) == monitor.process_memory(-1, [7]) == -1
    assert not monitor.lists(-1, 7)


def test_a_ledger_shows_the_level_before_the_peak_and_the_rest(cards, clock):
    card = cards[0]
    ledger = Ledger(GpuMonitor(), 0)
    for held in (1, 9, 4):
        card.processes[7], card.used = held * GIB, 500 * MIB + held * GIB
        assert ledger.sample(7) == held * GIB
    card.processes.clear()
    card.used = 510 * MIB
    release = ledger.verdict(7)
    assert (release.verdict, release.before, release.peak, release.after) == (
        "released", 500 * MIB, 9 * GIB, 510 * MIB
    )  # fmt: skip
    assert release.seconds == 0.0


def test_a_peak_between_two_samples_is_told_by_the_process(cards, clock):
    card = cards[0]
    ledger = Ledger(GpuMonitor(), 0)
    card.processes[7] = 3 * GIB
    ledger.sample(7)
    ledger.report(7, reserved=2 * GIB, most=6 * GIB)
    assert ledger.peak == 7 * GIB  # 1 GiB is the context


def test_a_process_that_tells_nothing_of_its_allocator_changes_no_peak(cards, clock):
    ledger = Ledger(GpuMonitor(), 0)
    cards[0].processes[7] = 3 * GIB
    ledger.report(7, reserved=-1, most=-1)
    assert ledger.peak == 3 * GIB


def test_other_processes_on_the_card_are_not_counted(cards, clock):
    cards[0].processes = {7: GIB, 8: 5 * GIB}
    ledger = Ledger(GpuMonitor(), 0)
    assert ledger.sample(7) == GIB


@pytest.mark.parametrize(("rest", "verdict"), [(64, "released"), (65, None)])
def test_the_rest_may_be_as_large_as_the_tolerance(cards, clock, rest, verdict):
    ledger = Ledger(GpuMonitor(), 0, tolerance=64 * MIB)
    cards[0].used += rest * MIB
    release = ledger.verdict(7)
    assert (release.verdict if release else None) == verdict


def test_memory_that_comes_back_late_is_waited_for(cards, clock):
    ledger = Ledger(GpuMonitor(), 0, deadline=10.0)
    cards[0].used += 5 * GIB
    assert ledger.verdict(7) is None
    clock.now += 9.9
    assert ledger.verdict(7) is None
    cards[0].used -= 5 * GIB
    release = ledger.verdict(7)
    assert release.verdict == "released"
    assert release.seconds == pytest.approx(9.9)


def test_memory_that_does_not_come_back_is_held(cards, clock):
    ledger = Ledger(GpuMonitor(), 0, deadline=10.0)
    cards[0].used += 5 * GIB
    assert ledger.verdict(7) is None
    clock.now += 10.0
    release = ledger.verdict(7)
    assert (release.verdict, release.after) == ("held", 500 * MIB + 5 * GIB)


def test_a_process_that_is_still_listed_has_released_nothing(cards, clock):
    ledger = Ledger(GpuMonitor(), 0, deadline=10.0)
    cards[0].processes[7] = None
    assert ledger.verdict(7) is None
    clock.now += 10.0
    assert ledger.verdict(7).verdict == "held"


@pytest.mark.parametrize("listed", [{}, {7: None}], ids=["no_pids", "no_numbers"])
def test_where_a_processes_memory_is_hidden_the_cards_gain_is_its_peak(cards, clock, listed):
    ledger = Ledger(GpuMonitor(), 0)
    cards[0].processes = dict(listed)
    cards[0].used += 2 * GIB
    assert ledger.sample(7) == 2 * GIB
    cards[0].used -= 3 * GIB // 2
    assert ledger.sample(7) == GIB // 2
    assert ledger.peak == 2 * GIB


def test_without_nvml_nothing_is_claimed(monkeypatch, clock):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    ledger = Ledger(GpuMonitor(), 0)
    assert ledger.sample(7) == -1
    release = ledger.verdict(7)
    assert (release.verdict, release.before, release.peak, release.after) == (
        "not measurable", -1, -1, -1
    )  # fmt: skip


def test_a_driver_that_fails_on_the_way_is_not_a_release(cards, clock):
    ledger = Ledger(GpuMonitor(), 0)
    cards[0].broken = True
    assert ledger.sample(7) == -1
    release = ledger.verdict(7)
    assert (release.verdict, release.peak, release.after) == ("not measurable", -1, -1)


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, [0, 1, 2]),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,2", [0]),
        ("0,7,2", [0]),
        ("0,,2", [0]),
        ("1,1,2", [1]),
        ("1,GPU-aa22", [1]),
        ("GPU-bb33", [2]),
        ("GPU-b", [2]),
        ("GPU-bb33,0", [2, 0]),
        ("GPU-aa", []),
        ("GPU-cc", []),
        ("MIG-GPU-aa11/1/0", [0, 1, 2]),
    ],
)
def test_visible_cards_are_counted_as_cuda_counts_them(visible, left):
    assert visible_indices(UUIDS, visible) == left


@given(visible=st.text(alphabet="0123-,GPUa² ") | st.text())
def test_any_choice_of_cards_is_understood_somehow(visible):
    left = visible_indices(UUIDS, visible)
    assert set(left) <= {0, 1, 2}
    assert len(set(left)) == len(left)


@pytest.mark.parametrize(
    ("device", "indices"),
    [("auto", [0, 1, 2]), ("cpu", []), ("cuda", [0]), ("cuda:0", [0]), ("cuda:2", [2])],
)
def test_a_device_names_its_cards(cards, device, indices):
    chosen = choose_cards(device, GpuMonitor())
    assert [card.index for card in chosen] == indices
    assert [card.visible for card in chosen] == [UUIDS[index] for index in indices]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "0", "", "cpu:0"])
def test_a_device_that_is_none_is_refused(cards, device):
    with pytest.raises(UsageError, match=f'unknown device "{device}"'):
        choose_cards(device, GpuMonitor())


def test_a_card_that_is_not_there_is_refused_with_those_that_are(cards):
    with pytest.raises(UsageError, match=r"no cuda:3 here \(cuda:0 Toy 12, cuda:1"):
        choose_cards("cuda:3", GpuMonitor())


def test_a_card_that_the_user_hid_is_refused(cards, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(UsageError, match="no cuda:0 here"):
        choose_cards("cuda:0", GpuMonitor())


def test_where_there_is_no_gpu_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([], "Driver Not Loaded"))
    with pytest.raises(UsageError, match="Driver Not Loaded"):
        choose_cards("cuda:0", GpuMonitor())
    assert choose_cards("auto", GpuMonitor()) == ()
