"""Blocks of networks run by compiled code: one block of each kind is compiled, and serves all.

A transformer's blocks differ in their numbers alone. So one of them, empty, is compiled as a
function of its parameters, and each block calls it with its own: whatever they are at that moment,
as a streamer lends them for a call. What `Lookup`s stand for is handed in the same way.

Compiled code rounds otherwise than PyTorch's own kernels: the result is as good, but not the same
bits. Where compiling fails, the blocks run as ever, and `why_not` says why.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.streaming.eight_bit_linear import EightBitLinear
from stages.streaming.once import Lookup


class CompiledBlocks:
    """The blocks of one network or several.

    why_not   why they are not compiled, "" as long as nothing failed
    seconds   spent on compiling so far: on the first calls, which compile
    """

    def __init__(
        self, nets: Sequence[nn.Module], block_lists: Sequence[str], backend: Any = "inductor"
    ) -> None:
        """Call it while no streamer has hooked into the blocks; nothing is compiled yet.

        nets: which may have parameters on meta; block_lists: names of nn.ModuleLists in each.
        """
        self.why_not = ""
        self.seconds = 0.0
        self.active = False
        self._backend = backend
        self._kinds: list[_Kind] = []
        for net in nets:
            for name in block_lists:
                self._take(list(net.get_submodule(name).children()))

    @contextlib.contextmanager
    def running(self, cache: Path | None) -> Iterator[None]:
        """Inside, blocks run compiled where `active`. cache: a folder for what is compiled, which
        other processes find there; None: torch's own."""
        with _compiler_settings(cache):
            yield

    def _take(self, blocks: Sequence[nn.Module]) -> None:
        """Blocks of a list are of one kind, unless a LoRA is beside the layers of some."""
        kinds: dict[tuple[str, ...], _Kind] = {}
        for block in blocks:
            alike = tuple(name for name, _ in block.named_parameters())
            if alike not in kinds:
                kinds[alike] = _Kind.of(block, self._backend)
            self._replace_forward(block, kinds[alike])
        self._kinds += kinds.values()

    def _replace_forward(self, block: nn.Module, kind: _Kind) -> None:
        usual = block.forward
        parameters = [_place(block, name) for name in kind.parameters]
        lookups = [block.get_submodule(name) for name in kind.lookups]

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self.active or self.why_not:
                return usual(*args, **kwargs)
            values = [holder[leaf] for holder, leaf in parameters]
            # Called as ever, so that what watches them sees what they are given.
            values += [lookup(nn.functional.silu(kwargs["temb"])) for lookup in lookups]
            plain = {name: _strided(value) for name, value in kwargs.items()}
            try:
                return self._timed(kind, values, args, plain)
            except (torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except Exception as error:  # noqa: BLE001 (whatever a compiler may raise)
                self.why_not = _first_line(error)
                return usual(*args, **kwargs)

        block.forward = forward

    def _timed(self, kind: _Kind, values: list[Any], args: Any, kwargs: Any) -> Any:
        """Call the compiled code; the first calls of a kind, which compile, are timed."""
        if kind.calls >= _COMPILING_CALLS:
            return kind.compiled(values, args, kwargs)
        began = time.perf_counter()
        found = kind.compiled(values, args, kwargs)
        kind.calls += 1
        self.seconds += time.perf_counter() - began
        return found


_COMPILING_CALLS = 2


@dataclass
class _Kind:
    """One kind of block.

    parameters, lookups   names within a block, in the order in which `compiled` is given values
    compiled              (values, args, kwargs) -> what the block's forward gives
    calls                 how often it was called
    """

    parameters: list[str]
    lookups: list[str]
    compiled: Callable[..., Any]
    calls: int = 0

    @classmethod
    def of(cls, block: nn.Module, backend: Any) -> _Kind:
        empty = _emptied(block)
        parameters = [name for name, _ in empty.named_parameters()]
        lookups = [name for name, module in empty.named_modules() if isinstance(module, Lookup)]
        for name in lookups:
            owner, _, leaf = name.rpartition(".")
            setattr(empty.get_submodule(owner), leaf, _Given())
        names = [*parameters, *(f"{name}.value" for name in lookups)]

        def call(values: list[Any], args: Any, kwargs: Any) -> Any:
            state = dict(zip(names, values, strict=True))
            return torch.func.functional_call(empty, state, args, kwargs)

        # Code of its own: torch counts how often one code was compiled, and stops at eight.
        own = types.FunctionType(
            call.__code__.replace(), call.__globals__, None, call.__defaults__, call.__closure__
        )
        return cls(
            parameters, lookups, torch.compile(own, backend=backend, dynamic=False, fullgraph=True)
        )


class _Given(nn.Module):
    """Gives what its buffer holds, whatever it is given."""

    value: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.empty(0, device="meta"))

    def forward(self, _vector: torch.Tensor) -> torch.Tensor:
        return self.value


def _emptied(block: nn.Module) -> nn.Module:
    """A copy of a block without numbers, and without hooks."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in block.parameters()
    }
    for module in block.modules():
        if isinstance(module, EightBitLinear):  # keep what is measured with the block
            memo[id(module.errors)] = module.errors
    empty = copy.deepcopy(block, memo)
    for module in empty.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    return empty


def _place(block: nn.Module, name: str) -> tuple[Any, str]:
    """Where a parameter of a block is, at any time."""
    owner, _, leaf = name.rpartition(".")
    return block.get_submodule(owner)._parameters, leaf


def _strided(value: Any) -> Any:
    """A contiguous tensor with the strides that its shape tells. Code is compiled for strides, and
    the first of a slice of one picture's tokens are those of the whole."""
    if isinstance(value, torch.Tensor) and value.is_contiguous():
        strides = [1]
        for size in reversed(value.shape[1:]):
            strides.insert(0, strides[0] * size)
        return value.as_strided(value.shape, strides[: value.ndim], value.storage_offset())
    return value


@contextlib.contextmanager
def _compiler_settings(cache: Path | None) -> Iterator[None]:
    """Compile in this process, as a helper process could be left behind, and keep what is made."""
    import torch._inductor.config as inductor

    folders = {}
    if cache is not None:
        folders = {
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
        }
    before = {name: os.environ.get(name) for name in folders}
    os.environ.update(folders)
    try:
        with inductor.patch(compile_threads=1):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first_line(error: Exception) -> str:
    """What a compiler said, short enough for a record; its second line often has the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]
