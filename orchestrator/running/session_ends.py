"""Why a process has ended, or is being ended, in words."""

from __future__ import annotations

from pathlib import Path

from orchestrator.pipeline.graph import Node
from orchestrator.processes.handle import StageProcess
from orchestrator.running.protocol_rules import State
from orchestrator.running.session_events import StageFailure
from orchestrator.system.exit_codes import describe_exit


def hung(state: State, limit: float) -> StageFailure:
    """It has sent no heartbeat for so many seconds."""
    return StageFailure(
        "crashed",
        f"no heartbeat for {limit:g} s while {state}",
        "the process hung; --set runtime.heartbeat_timeout=SECONDS waits longer",
    )


def took_too_long(state: State, node: Node) -> StageFailure:
    """Its job or its load has passed the node's limit."""
    name = "timeout" if state == "running" else "load_timeout"
    limit = node.config.timeout if state == "running" else node.config.load_timeout
    return StageFailure(
        "timed_out",
        f"{state} took longer than {limit:g} s",
        f"--set {node.name}.{name}=SECONDS raises the limit",
    )


def died(process: StageProcess, before_it: str, log: Path) -> StageFailure:
    """It is gone, and nobody has asked it to end. before_it: "was ready", "was done"."""
    if process.exit_code is None:
        return StageFailure("internal", process.unstarted)
    return StageFailure(
        "crashed",
        f"the process ended with {describe_exit(process.exit_code)} before it {before_it}",
        f"its last words are in {log}",
    )
