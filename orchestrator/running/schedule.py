"""Who works next: pure decisions over jobs, sessions and leases, without side effects.

A node's processes serve all jobs that are ready for it: by stage those of the whole batch, by
picture the few that are under way (`spread`). Nodes are looked at in the graph's order, so the
earliest one with work gets the next card.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from orchestrator.pipeline.graph import Graph, Node
from orchestrator.running.jobs import READABLE, Job
from orchestrator.running.leases import Leases
from orchestrator.running.session import Session
from orchestrator.running.spread import ALONE, Spread, on_gpu


class Schedule:
    """Answers the loop's questions; reads jobs and sessions, changes nothing.

    jobs    those that have begun or may begin; later: those that come when some of these are over
    prefetch: start processes ahead of time. Those of CPU rungs start all at once: they are small
    until they load, and once they are forked the template is free to import for the GPU stages. A
    process loads when the inputs of a job of its are there or being computed.
    """

    def __init__(
        self,
        graph: Graph,
        jobs: Sequence[Job],
        leases: Leases,
        prefetch: bool,
        spread: Spread = ALONE,
        later: Collection[Job] = (),
    ) -> None:
        self._graph = graph
        self._spread = spread
        self._at_once = min(len(leases.cards), spread.on_cards)
        self._jobs = jobs
        self._later = later
        self._leases = leases
        self._prefetch = prefetch

    def ready(self, node: str, rung: int) -> list[Job]:
        """Jobs that could be given to a process of this node and rung now."""
        return [
            job
            for job in self._jobs
            if job.nodes[node].standing == "ready" and job.nodes[node].rung == rung
        ]

    def processes_to_start(self, sessions: Sequence[Session]) -> list[tuple[Node, int]]:
        """(node, rung) of each process that should be started now.

        A node's rungs follow each other: a lower one begins when the processes of the upper one
        are gone.
        """
        wanted: list[tuple[Node, int]] = []
        for node in self._graph.nodes.values():
            active = [s.rung for s in sessions if s.node.name == node.name and not s.ended]
            rungs = {job.nodes[node.name].rung for job in self._jobs if self._asks(job, node)}
            for rung in sorted(rungs):
                if any(other != rung for other in active):
                    continue
                missing = self._processes(node, rung, sessions, wanted) - len(active)
                wanted += [(node, rung)] * max(0, missing)
                active += [rung] * max(0, missing)
        return wanted

    def _asks(self, job: Job, node: Node) -> bool:
        standing = job.nodes[node.name].standing
        if standing == "ready":
            return True
        if not self._prefetch or standing != "waiting" or not job.nodes[node.name].ahead:
            return False
        return not on_gpu(node, job.nodes[node.name].rung) or self._comes_next(job, node)

    def _comes_next(self, job: Job, node: Node) -> bool:
        """Whether everything that the node reads is there or being computed."""
        return job.standing(self._graph.upstream(node.name)) <= READABLE | {"running"}

    def may_load(self, session: Session) -> bool:
        """Whether a job comes next that a process may load for, or read its weights ahead for."""
        name = session.node.name
        return any(
            job.nodes[name].standing in ("waiting", "ready")
            and job.nodes[name].rung == session.rung
            and self._comes_next(job, session.node)
            for job in self._jobs
        )

    def may_take_card(self, session: Session, sessions: Sequence[Session]) -> bool:
        """Whether a GPU process that has a job may have a card now: those of earlier nodes that
        wait for one come first, also while they are only starting, as behind a crash. Processes of
        one node load after each other: the first reads the files, and computes while the next
        one finds them in memory."""
        if not self.ready(session.node.name, session.rung):
            return False
        if any(other.state == "loading" and other.node is session.node for other in sessions):
            return False
        order = list(self._graph.nodes)
        mine = order.index(session.node.name)
        before = sum(
            order.index(other.node.name) < mine
            and on_gpu(other.node, other.rung)
            and other.card is None
            and not other.ended
            and bool(self.ready(other.node.name, other.rung))
            for other in sessions
        )
        return before < self._leases.free_cards

    def _processes(
        self,
        node: Node,
        rung: int,
        sessions: Sequence[Session],
        wanted: Sequence[tuple[Node, int]],
    ) -> int:
        """A CPU node has a process for each job that is ready or computed, up to its crew. A GPU
        node has one, on several cards as many as have jobs to do.

        A GPU process that is only prefetched must be the only one that waits for a card, so that
        waiting ones do not fill the host's memory.
        """
        if not on_gpu(node, rung):
            busy = sum(s.node.name == node.name and s.state == "running" for s in sessions)
            in_hand = busy + len(self.ready(node.name, rung))
            return max(1, min(in_hand, self._spread.crew(node.name)))
        if ready := len(self.ready(node.name, rung)):
            return min(ready, self._at_once)
        waiting = any(on_gpu(s.node, s.rung) and s.card is None and not s.ended for s in sessions)
        waiting = waiting or any(on_gpu(other, at) for other, at in wanted)
        mine = any(s.node.name == node.name and not s.ended for s in sessions)
        return int(bool(self._leases.cards) and (mine or not waiting))

    def is_wanted(self, session: Session, sessions: Sequence[Session]) -> bool:
        """Whether a process that has not loaded yet has, or may get, something to do."""
        name = session.node.name
        return bool(self.ready(name, session.rung)) or self.may_get_more(session, sessions)

    def may_get_more(self, session: Session, sessions: Sequence[Session]) -> bool:
        """Whether a job can still become ready for this process without needing its card."""
        if self._later:  # by picture, where no process has a card
            return True
        name = session.node.name
        elsewhere = {
            other.node.name
            for other in sessions
            if other is not session and other.card is not None and not other.ended
        }
        for job in self._jobs:
            progress = job.nodes[name]
            if progress.standing != "waiting" or progress.rung != session.rung:
                continue
            if session.card is None or not any(
                on_gpu(self._graph.nodes[above], job.nodes[above].rung)
                for above in self._graph.ancestors(name) - elsewhere
                if job.nodes[above].standing not in READABLE
            ):
                return True
        return False

    def gives_way_at(self, session: Session, sessions: Sequence[Session]) -> float:
        """`clock.now()` at which a process that waits for inputs gives its card up, because another
        node has work for it: when the wait has cost as much as loading again will. inf: never."""
        waits = session.state == "idle" and not session.doomed
        if session.card is None or not waits or self._leases.free_cards:
            return math.inf
        wanted = any(
            on_gpu(node, rung)
            and self.ready(name, rung)
            and sum(s.node.name == name and s.card is not None for s in sessions) < self._at_once
            for name, node in self._graph.nodes.items()
            if name != session.node.name
            for rung in range(len(node.config.attempts))
        )
        return session.waited_a_load if wanted else math.inf
