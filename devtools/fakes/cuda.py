"""A stage that works on the card, and may die there."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from devtools.fakes.stages import NUMBERS, TROUBLED
from stages import contract
from stages.contract import Context, Params, Stage


class CudaParams(Params):
    gib: float = Field(2.0, gt=0, description="memory to hold")
    mode: Literal["ok", "segfault", "killed", "oom", "illegal_access"] = Field(
        "ok", description="how to end"
    )
    flag: str = Field("", description="misbehave once: then this file is made")


class Cuda(Stage):
    """Holds memory on the card, multiplies there, and may die with it."""

    name = "fake.cuda"
    summary = "numbers + 1, computed on the GPU"
    inputs = (NUMBERS,)
    outputs = (TROUBLED,)
    Params: ClassVar[type[contract.Params]] = CudaParams
    preload = ("torch",)

    def load(self, context: Context) -> None:
        import torch

        self._held = torch.ones(int(self.params.gib * 2**30), dtype=torch.uint8, device="cuda:0")
        torch.cuda.synchronize()

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np
        import torch

        flag = Path(self.params.flag) if self.params.flag else None
        if flag is None or not flag.exists():
            if flag is not None:
                flag.touch()
            self._misbehave()
        numbers = torch.from_numpy(np.array(inputs["numbers"])).to(context.device)
        time.sleep(0.5)  # long enough to be sampled
        return {"troubled": (numbers + 1).cpu().numpy()}

    def _misbehave(self) -> None:
        import torch

        if self.params.mode == "segfault":
            ctypes.string_at(0)
        elif self.params.mode == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.params.mode == "oom":
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda:0")
        elif self.params.mode == "illegal_access":
            index = torch.tensor([1 << 40], device="cuda:0")
            self._held[index].cpu()
