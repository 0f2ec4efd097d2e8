"""Planning without torch: tiers, order, the ring's places, and the cost model."""

from __future__ import annotations

import subprocess
import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.streaming.cost import Load, Rates, loads, seconds_per_evaluation
from stages.streaming.order import ExecutionOrder
from stages.streaming.ring import Ring
from stages.streaming.tiers import BlockSize, BudgetError, TierPlan, plan_tiers

DOUBLE, SINGLE = BlockSize(680, 680, 680), BlockSize(283, 283, 283)
FLUX = [*[DOUBLE] * 5, *[SINGLE] * 10, *[DOUBLE] * 19, *[SINGLE] * 38]
"""ControlNet-Union and the transformer, in MB of bfloat16."""

sizes = st.integers(1, 100)
plain_blocks = st.lists(sizes.map(lambda n: BlockSize(n, n, n)), min_size=1, max_size=30)
blocks = st.lists(st.builds(BlockSize, sizes, sizes, sizes), min_size=1, max_size=30)


def plan_or_none(sizes: list[BlockSize], rest: int, vram: int, host: int) -> TierPlan | None:
    try:
        return plan_tiers(sizes, rest, vram, host)
    except BudgetError:
        return None


@given(blocks, st.integers(0, 50), st.integers(0, 3000), st.integers(0, 3000))
def test_a_plan_keeps_both_budgets(sizes: list[BlockSize], rest: int, vram: int, host: int) -> None:
    plan = plan_or_none(sizes, rest, vram, host)
    if plan is None:
        return
    assert plan.card_bytes <= vram
    assert plan.host_bytes <= host
    assert len(plan.tiers) == len(sizes)


@given(blocks, st.integers(0, 50), st.integers(0, 3000), st.integers(0, 3000))
def test_every_block_that_moves_fits_slot_and_ring(
    sizes: list[BlockSize], rest: int, vram: int, host: int
) -> None:
    plan = plan_or_none(sizes, rest, vram, host)
    if plan is None:
        return
    for size, tier in zip(sizes, plan.tiers, strict=True):
        assert tier == "card" or size.card <= plan.slot_bytes
        assert tier != "file" or size.file <= plan.ring_bytes


@given(blocks, st.integers(0, 3000), st.integers(0, 3000))
def test_bytes_of_a_pass_are_those_of_the_blocks_that_move(
    sizes: list[BlockSize], vram: int, host: int
) -> None:
    plan = plan_or_none(sizes, 0, vram, host)
    if plan is None:
        return
    moved = zip(sizes, plan.tiers, strict=True)
    expected = sum({"card": 0, "host": s.host, "file": s.file}[tier] for s, tier in moved)
    assert plan.link_bytes == expected
    assert plan.file_bytes == plan.link_bytes - plan.pinned_bytes


@given(plain_blocks, st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 500))
def test_more_host_memory_never_reads_more_by_a_block(
    sizes: list[BlockSize], vram: int, host: int, more: int
) -> None:
    small, large = plan_or_none(sizes, 0, vram, host), plan_or_none(sizes, 0, vram, host + more)
    if small is None or large is None:
        return
    # The ring may take a share of what is added, up to its three blocks.
    assert large.file_bytes <= small.file_bytes + 3 * max(size.file for size in sizes)


@given(blocks)
def test_with_room_for_all_nothing_moves(sizes: list[BlockSize]) -> None:
    plan = plan_tiers(sizes, 5, 5 + sum(size.card for size in sizes), 0)
    assert set(plan.tiers) == {"card"}
    assert (plan.slots, plan.link_bytes, plan.host_bytes) == (0, 0, 0)


@given(st.integers(2, 60), st.data())
def test_equal_blocks_are_spread_evenly_over_the_order(count: int, data: st.DataObject) -> None:
    resident = data.draw(st.integers(0, count - 1))
    sizes = [BlockSize(10, 10, 10)] * count
    plan = plan_or_none(sizes, 0, 20 + 10 * resident, 10_000)
    assert plan is not None
    for upto in range(count + 1):
        kept = plan.tiers[:upto].count("card")
        assert abs(kept - upto * plan.count("card") / count) <= 1.01


@given(st.integers(8, 60), st.data())
def test_pinned_and_file_blocks_are_interleaved(count: int, data: st.DataObject) -> None:
    pinned = data.draw(st.integers(0, count - 4))
    sizes = [BlockSize(10, 10, 10)] * count
    plan = plan_tiers(sizes, 0, 20, 30 + 10 * pinned)
    moved = [tier for tier in plan.tiers if tier != "card"]
    for upto in range(len(moved) + 1):
        share = upto * moved.count("host") / len(moved)
        assert abs(moved[:upto].count("host") - share) <= 1.01


def test_the_longest_transfers_are_spared_first() -> None:
    plan = plan_tiers(FLUX, 500, 9_000, 30_000)
    resident = [block for block, tier in zip(FLUX, plan.tiers, strict=True) if tier == "card"]
    assert resident.count(DOUBLE) >= 9
    assert resident.count(SINGLE) <= 2


def test_slots_shrink_once_all_large_blocks_stay() -> None:
    plan = plan_tiers(FLUX, 0, 24 * 680 + 2 * 283 + 100, 30_000)
    assert plan.slot_bytes == 283
    assert plan.count("card") == 24


def test_a_budget_error_says_what_is_needed() -> None:
    with pytest.raises(BudgetError) as card:
        plan_tiers(FLUX, 500, 1_500, 30_000)
    assert (card.value.where, card.value.needed) == ("card", 500 + 2 * 680)
    with pytest.raises(BudgetError) as host:
        plan_tiers(FLUX, 500, 5_000, 100)
    assert (host.value.where, host.value.needed) == ("host", 680)
    plan_tiers(FLUX, 500, card.value.needed, host.value.needed)


@given(st.integers(1, 60), st.lists(st.integers(1, 60), max_size=60))
def test_places_in_the_ring_never_overlap(size: int, wanted: list[int]) -> None:
    ring, held = Ring(size), deque[tuple[int, int]]()
    for nbytes in wanted:
        while (begin := ring.allocate(nbytes)) is None and held:
            ring.free_oldest()
            held.popleft()
        if begin is None:
            assert nbytes > size
            continue
        end = begin + nbytes
        assert begin >= 0
        assert end <= size
        assert all(end <= other or begin >= stop for other, stop in held)
        held.append((begin, end))


def test_the_cycle_is_predicted_from_the_start() -> None:
    order = ExecutionOrder([0, 1, 2])
    assert list(order.upcoming()) == [0, 1, 2]
    assert order.ran(0)
    assert list(order.upcoming()) == [1, 2, 0]


def test_a_network_left_out_surprises_once_and_is_then_expected_to_be() -> None:
    control, transformer = [0, 1], [2, 3, 4]
    order = ExecutionOrder([*control, *transformer])
    for block in [*control, *transformer]:
        assert order.ran(block)
    assert [order.ran(block) for block in transformer] == [False, True, True]
    assert list(order.upcoming())[:3] == transformer
    assert all(order.ran(block) for block in transformer)
    assert [order.ran(block) for block in [*control, *transformer]].count(False) == 1


def test_a_told_cycle_may_repeat_a_network() -> None:
    order = ExecutionOrder([0, 1, 2])
    order.expect([0, 1, 0, 1, 2])
    assert all(order.ran(block) for block in [0, 1, 0, 1, 2, 0, 1, 0, 1, 2])


def test_a_block_outside_the_told_cycle_changes_no_prediction() -> None:
    order = ExecutionOrder([0, 1, 2, 3])
    order.expect([2, 3])
    assert not order.ran(0)
    assert order.ran(2)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_any_order_of_blocks_can_run(history: list[int]) -> None:
    order = ExecutionOrder(range(6))
    for block in history:
        order.ran(block)
    assert len(list(order.upcoming())) == 6


work = st.lists(
    st.builds(Load, st.floats(0.001, 1), st.integers(0, 50), st.just(0))
    | st.integers(1, 50).map(lambda n: Load(0.1, n, n)),
    min_size=1,
    max_size=12,
)


@given(work, st.floats(1, 1e4), st.floats(1, 1e4))
def test_an_evaluation_takes_between_full_overlap_and_none(
    work: list[Load], link: float, file: float
) -> None:
    rates = Rates(link, file)
    spent = seconds_per_evaluation(work, rates, slots=2, ring_bytes=150, warm_up=3)
    nothing_overlaps = sum(
        load.seconds + load.link_bytes / link + load.file_bytes / file for load in work
    )
    assert spent <= nothing_overlaps * 4 + 1e-6
    over = [seconds_per_evaluation(work, rates, 2, 150, warm_up=n) for n in range(20)]
    # A pipeline may lend time to the next evaluation, never make it up in the long run.
    assert sum(over) >= 20 * lower_bound(work, rates) - lower_bound(work, rates) - 1e-6


@given(work, st.floats(1, 1e4), st.floats(1, 1e4))
def test_faster_links_never_cost_time(work: list[Load], link: float, file: float) -> None:
    slow = seconds_per_evaluation(work, Rates(link, file), ring_bytes=150, warm_up=0)
    fast = seconds_per_evaluation(work, Rates(2 * link, 2 * file), ring_bytes=150, warm_up=0)
    assert fast <= slow + 1e-9


def test_a_link_faster_than_computing_is_hidden() -> None:
    work = [Load(1.0, 10)] * 8
    assert seconds_per_evaluation(work, Rates(20, 1)) == pytest.approx(8.0)


def test_a_link_slower_than_computing_sets_the_pace() -> None:
    work = [Load(1.0, 10)] * 8
    assert seconds_per_evaluation(work, Rates(5, 1)) == pytest.approx(16.0)


def test_sparing_the_long_transfers_is_what_hides_them() -> None:
    """FLUX on a card with 54.8 GB/s where each block computes 7.5 ms (both measured)."""
    rates = Rates(link=54.8e3, file=1.0)
    seconds = [0.0075] * len(FLUX)
    streamed = plan_tiers(FLUX, 500, 500 + 2 * 680, 30_000)
    twelve = plan_tiers(FLUX, 500, 9_000, 30_000)
    assert seconds_per_evaluation(loads(FLUX, streamed, seconds), rates) > 1.15 * sum(seconds)
    assert seconds_per_evaluation(loads(FLUX, twelve, seconds), rates) < 1.03 * sum(seconds)


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys, stages.streaming.tiers, stages.streaming.cost;sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def lower_bound(work: list[Load], rates: Rates) -> float:
    """Seconds if everything overlapped: the slowest machine's own time."""
    return max(
        sum(block.seconds for block in work),
        sum(block.link_bytes for block in work) / rates.link,
        sum(block.file_bytes for block in work) / rates.file,
    )
