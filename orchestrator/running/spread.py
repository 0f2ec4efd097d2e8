"""How jobs are laid over a machine: what works at a time, and in how many threads.

by picture   where no stage loads large weights or uses a card, nothing is gained by going stage by
             stage: a picture goes through to its end, as many beside each other as cores and
             memory allow, and the next one begins when one is over
by stage     otherwise: one process of a node serves all jobs that are ready for it, so that each
             model is loaded once. Those of a CPU node are several where the cores allow it, and
             those of a GPU node as many as there are cards

No result of `sketch` depends on any of it; torch on the CPU rounds by its threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.pipeline.budget import GIB
from orchestrator.pipeline.graph import Graph, Node
from orchestrator.pipeline.profile import Runtime
from orchestrator.system import machine

MAX_THREADS = 4
"""Unless a profile says more. On 16 cores hull.reconstruct took 2.3 s with 1 to 4 threads and
3.9 to 5.1 s with 8 or 16: its grids are too small to be cut finer."""
LEAST_HOST = 8 << 30
"""Host memory in bytes for each of several processes on cards: streamed Flux pins 5 GiB or more."""
LEAST_SLOTS = 2
"""CPU jobs that compute at a time beside cards, also on few cores: a long one (a caption) must not
keep a short one (the next picture's cut-out) from feeding the card."""
UNMEASURED = GIB // 2
"""Host memory in bytes of a process without weights that the table says nothing of."""
IDLE = GIB // 8
"""What a process that waits for its next picture keeps for itself; libraries it shares with those
that were forked from the same template. 16 sketches at a time took 15 GiB."""


@dataclass(frozen=True)
class Spread:
    """How many of what at a time.

    pictures  that may be under way, by picture; 0: by stage, and any number
    slots     CPU jobs that compute
    threads   of each stage
    on_cards  processes of a GPU node
    host      bytes of host memory for the weights of each process on a card; 0: no limit
    crews     CPU node -> its processes; 1 where it says nothing
    """

    pictures: int = 0
    slots: int = LEAST_SLOTS
    threads: int = 1
    on_cards: int = 1
    host: int = 0
    crews: Mapping[str, int] = field(default_factory=dict)

    def crew(self, node: str) -> int:
        """Processes of a CPU node at a time."""
        return self.crews.get(node, 1)


ALONE = Spread()


def spread(graph: Graph, runtime: Runtime, jobs: int, cards: int = 0, host: int = 0) -> Spread:
    """Lay so many jobs over this machine's cores, so many cards, and the host's memory.

    host: bytes that may be filled, 0: no limit
    """
    if goes_by_picture(graph):
        return _by_picture(graph, runtime, jobs, host)
    return _by_stage(graph, runtime, jobs, cards, host)


def goes_by_picture(graph: Graph) -> bool:
    """Whether no stage loads weights that it cannot do without, or may use a card."""
    return not any(
        on_gpu(node, rung) or _loads(node, rung)
        for node in graph.nodes.values()
        for rung in range(len(node.config.attempts))
    )


def on_gpu(node: Node, rung: int) -> bool:
    """Whether a rung of a node needs a card."""
    return node.config.attempts[rung].device == "cuda"


def at_once(cards: int, jobs: int, host: int) -> int:
    """How many processes of one node may work on cards at a time, which share the host's memory.

    host: bytes that weights may fill, 0: no limit
    """
    most = max(1, min(cards, jobs))
    return max(1, min(most, host // LEAST_HOST)) if host else most


def threads_alone(runtime: Runtime) -> int:
    """CPU threads of a stage that computes by itself."""
    return runtime.threads or min(MAX_THREADS, machine.cores())


def _by_picture(graph: Graph, runtime: Runtime, jobs: int, host: int) -> Spread:
    """As many pictures as cores, in one thread each, where there are enough of both: what a stage
    does in several threads is but a part of its work."""
    cores = machine.cores()
    pictures = runtime.cpu_slots or max(1, cores // max(1, runtime.threads))
    if host:  # for each picture one process computes, and one of each other stage may wait
        largest = max(_host_of(node) or UNMEASURED for node in graph.nodes.values())
        each = largest + (len(graph.nodes) - 1) * IDLE
        pictures = min(pictures, max(1, host // each))
    pictures = max(1, min(pictures, jobs))
    threads = runtime.threads or max(1, min(MAX_THREADS, cores // pictures))
    slots = runtime.cpu_slots or max(pictures, LEAST_SLOTS)  # stages of one may work side by side
    return Spread(pictures, slots, threads, crews=dict.fromkeys(graph.nodes, pictures))


def _by_stage(graph: Graph, runtime: Runtime, jobs: int, cards: int, host: int) -> Spread:
    """CPU processes share the cores, and leave the threads of one to those on cards."""
    if jobs < 2:
        threads, slots = threads_alone(runtime), runtime.cpu_slots or LEAST_SLOTS
        return Spread(slots=slots, threads=threads, host=host)
    cores = machine.cores()
    threads = runtime.threads or max(1, min(MAX_THREADS, cores // LEAST_SLOTS))
    slots = runtime.cpu_slots or max(LEAST_SLOTS, cores // threads - bool(cards))
    crews: dict[str, int] = {}
    more = 0  # host memory of all processes but the first of each node
    for node in graph.nodes.values():
        rungs = range(len(node.config.attempts))
        if all(on_gpu(node, rung) for rung in rungs):
            continue
        crew = min(slots, jobs)
        each = _host_of(node)
        if any(_loads(node, rung) for rung in rungs if not on_gpu(node, rung)):
            # Weights that nobody has measured may fill the machine.
            crew = min(crew, 1 + host // 4 // each) if each and host else 1
            more += (crew - 1) * each
        elif host:
            crew = max(1, min(crew, host // 4 // (each or UNMEASURED)))
        crews[node.name] = crew
    left = host - more if host else 0
    on_cards = at_once(cards, jobs, left)
    return Spread(0, slots, threads, on_cards, left // on_cards, crews)


def _host_of(node: Node) -> int:
    """Bytes of host memory that a node's process on the CPU was measured to take; 0: never."""
    return max(
        (
            expected.host
            for rung, expected in node.predictions.items()
            if node.config.attempts[rung].device == "cpu"
        ),
        default=0,
    )


def _loads(node: Node, rung: int) -> bool:
    """Whether a rung loads weights that it cannot do without."""
    return rung < len(node.weights) and any(not one.optional for one in node.weights[rung])
