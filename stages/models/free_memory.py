"""How much memory a stage may still take where it computes."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: str, cgroup: Path = CGROUP) -> int:
    """Bytes that can be had on "cpu" or "cuda:N" now.

    On the CPU what the system could give without swapping, and no more than what is left of a
    container's limit (Linux, cgroup v2).
    """
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        # What torch has reserved and does not use is free to us too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    import psutil

    available = int(psutil.virtual_memory().available)
    left = _left_of_limit(cgroup)
    return available if left is None else min(available, left)


def _left_of_limit(cgroup: Path) -> int | None:
    """None where there is no limit, or none that can be read."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((cgroup / "memory.current").read_text())
        facts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        # The kernel drops cached file pages before it runs out.
        return max(0, int(limit) - used + int(facts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None
