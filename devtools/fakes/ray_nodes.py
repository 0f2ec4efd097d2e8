"""A Ray cluster whose nodes are processes of this machine, for tests and benches."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def opened(nodes: int, cpus: int) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of so many nodes with so many cores each, and no card. Ends
    with the context; its files with it."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(  # sockets lie in it
        prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as short:
        os.environ["RAY_TMPDIR"] = short
        one = {"num_cpus": cpus, "num_gpus": 0}
        made = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
        try:
            for _ in range(nodes - 1):
                made.add_node(**one)
            yield made
        finally:
            made.shutdown()
            del os.environ["RAY_TMPDIR"]
