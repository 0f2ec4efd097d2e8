"""Read the tensors of any pickled checkpoint without running anything that the file names.

A pickle is a program: it names functions and classes, and says what to call them with. Here a name
becomes one of three things, and nothing is ever imported for it:

- the few functions that make tensors and dictionaries of plain values, sealed: they can be called,
  and nothing can be written onto them;
- a dtype, or the kind of a storage;
- anything else: an inert class of that name, which takes whatever it is given and does nothing.

torch.load does the rest (it asks for `Unpickler` and `load`, as the module `pickle` has them):
`torch.load(path, pickle_module=InertPickle())`, after `refuse_archives`.
"""

from __future__ import annotations

import collections
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch


class InertPickle:
    """What torch.load takes for the module `pickle`.

    names  what the file asked for and got an inert class for, e.g. "omegaconf.ListConfig"
    """

    __name__ = "inert_pickle"

    def __init__(self) -> None:
        self.names: set[str] = set()
        names = self.names

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                found = _known(module, name)
                if found is None:
                    names.add(f"{module}.{name}")
                    return _inert(name)
                return found

        self.Unpickler = Unpickler

    def load(self, file: BinaryIO, **options: Any) -> Any:
        """As pickle.load."""
        return self.Unpickler(file, **options).load()


def refuse_archives(path: Path) -> None:
    """Raise ValueError for the two kinds of file of which torch.load runs or unpacks more than a
    pickle: TorchScript, which is code, and the tar files of PyTorch 0.1."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(Path(name).name == "constants.pkl" for name in archive.namelist()):
                raise ValueError("it is a TorchScript program, not a checkpoint")
    elif tarfile.is_tarfile(path):
        raise ValueError("it is a tar file of PyTorch 0.1; save it anew with a later version")


class _Sealed:
    """Calls one function of ours. A pickle that sets its state changes nothing."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work

    def __call__(self, *arguments: Any) -> Any:
        return self._work(*arguments)

    def __setstate__(self, state: object) -> None:
        pass


class _StorageKind(_Sealed):
    """Stands for torch.UntypedStorage, of which torch.load only wants the dtype."""

    __slots__ = ()
    dtype = torch.uint8


class _InertType(type):
    def __setattr__(cls, name: str, value: object) -> None:
        pass


class _Inert(metaclass=_InertType):
    """Takes construction, state, items and calls, and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return object.__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> _Inert:
        return self

    @staticmethod
    def _ignore(*_: Any, **__: Any) -> None:
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = update = _ignore


def _inert(name: str) -> _InertType:
    return _InertType(name, (_Inert,), {})


def _tensor(storage: Any, offset: int, size: Iterable[int], stride: Iterable[int], *_: Any) -> Any:
    return torch._utils._rebuild_tensor(storage, offset, tuple(size), tuple(stride))


def _tensor_of_dtype(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Any:
    """rest: requires_grad, hooks, dtype, metadata."""
    return torch._utils._rebuild_tensor_v3(storage, offset, size, stride, False, {}, rest[2])


def _first(value: Any, *_: Any) -> Any:
    return value


def _without_type(rebuild: Any, _type: object, arguments: Iterable[Any], *_: Any) -> Any:
    """A tensor subclass, or one with attributes, as the plain tensor that it wraps."""
    return rebuild(*arguments)


def _dictionary(*content: Any) -> dict[Any, Any]:
    """An OrderedDict, or a defaultdict without its factory. Items usually follow later."""
    pairs = [value for value in content if isinstance(value, list | tuple | dict)]
    return collections.OrderedDict(*pairs)


_CALLABLE: dict[str, _Sealed] = {
    "torch._utils._rebuild_tensor": _Sealed(_tensor),
    "torch._utils._rebuild_tensor_v2": _Sealed(_tensor),
    "torch._utils._rebuild_tensor_v3": _Sealed(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": _Sealed(_first),
    "torch._utils._rebuild_parameter_with_state": _Sealed(_first),
    "torch._tensor._rebuild_from_type": _Sealed(_without_type),
    "torch._tensor._rebuild_from_type_v2": _Sealed(_without_type),
    "torch.Size": _Sealed(torch.Size),
    "torch.storage.UntypedStorage": _StorageKind(_first),
    "torch.UntypedStorage": _StorageKind(_first),
    "collections.OrderedDict": _Sealed(_dictionary),
    "collections.defaultdict": _Sealed(_dictionary),
    "builtins.dict": _Sealed(_dictionary),
}


def _known(module: str, name: str) -> object | None:
    """What stands for a name that tensors are made of; None for all others."""
    if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
        return found
    # Protocol 2 writes the module names of Python 2.
    return _CALLABLE.get(f"{module.replace('__builtin__', 'builtins')}.{name}")
