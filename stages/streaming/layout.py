"""Where a block's tensors lie: in its file, in the stored image, in a slot.

All three are flat byte buffers. Tensors follow each other in file order, on 256-byte boundaries
(what CUDA's allocator gives, and kernels with vector loads expect); FLUX's tensors are multiples of
that, so its blocks are read in a few long ranges and copied in one piece.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from stages.streaming.delta import LowRankDelta
from stages.streaming.eight_bit import DTYPES as EIGHT_BIT
from stages.streaming.eight_bit import Kind
from stages.streaming.reader import Piece
from stages.streaming.source import TensorRange
from stages.streaming.tiers import BlockSize

ALIGNMENT = 256
FP8 = torch.float8_e4m3fn
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "I64": torch.int64,
    "F64": torch.float64,
}
"""torch's dtypes by safetensors' names."""


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of a block on its way from the file to a finished weight.

    name     of the parameter, within the block
    source   its bytes in the file
    dtype    that it is computed in
    delta    merged into it
    rounded  rounded to float8_e4m3fn after merging (lossy; stored and sent in 1 byte a number)
    kind     rounded to eight bits with a scale for each row after merging, and multiplied so
             (lossy); None: it is not
    """

    name: str
    source: TensorRange
    dtype: torch.dtype
    delta: LowRankDelta | None = None
    rounded: bool = False
    kind: Kind | None = None

    @property
    def file_dtype(self) -> torch.dtype:
        return DTYPES[self.source.dtype]

    @property
    def stored_dtype(self) -> torch.dtype:
        """The smallest dtype that holds the finished weight exactly, of those that it had."""
        if self.kind is not None:
            return EIGHT_BIT[self.kind]
        if self.rounded:
            return FP8
        if self.delta is None and self.file_dtype.itemsize < self.dtype.itemsize:
            return self.file_dtype
        return self.dtype

    @property
    def slot_dtype(self) -> torch.dtype:
        """What the block computes with."""
        return self.dtype if self.kind is None else EIGHT_BIT[self.kind]

    @property
    def scale_name(self) -> str:
        """Of the parameter that holds the scales of a weight in eight bits."""
        return f"{self.name.rpartition('.')[0]}.scale"


@dataclass(frozen=True)
class Image:
    """A block as flat bytes: where each tensor begins, in which dtype and shape."""

    offsets: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    shapes: tuple[tuple[int, ...], ...]
    nbytes: int

    def view(self, memory: torch.Tensor, index: int) -> torch.Tensor:
        """Tensor number `index` in `memory` ((>= nbytes,) uint8)."""
        dtype, shape = self.dtypes[index], self.shapes[index]
        begin = self.offsets[index]
        size = self.size(index)
        return memory[begin : begin + size].view(dtype).view(shape)

    def size(self, index: int) -> int:
        """Bytes of a tensor."""
        return self.dtypes[index].itemsize * torch.Size(self.shapes[index]).numel()


@dataclass(frozen=True)
class Copies:
    """How one image becomes another: runs of bytes as they are, and tensors that change dtype.

    runs   (from, to, bytes)
    casts  numbers of tensors
    """

    runs: tuple[tuple[int, int, int], ...]
    casts: tuple[int, ...]


class BlockLayout:
    """A block's tensors, its three images, and the way from one to another.

    file, stored, slot   images: as read, as kept in pinned memory, as computed with
    names                of the parameters in a slot: the tensors', then those of scales, which are
                         in stored image and slot alone
    scales               number of an eight-bit tensor -> number of its scales in both
    pieces               what to read into a file image
    """

    def __init__(self, tensors: Sequence[TensorPlan]) -> None:
        self.tensors = tuple(
            sorted(tensors, key=lambda tensor: (str(tensor.source.path), tensor.source.offset))
        )
        eight_bit = [n for n, tensor in enumerate(self.tensors) if tensor.kind is not None]
        self.scales = {n: len(self.tensors) + at for at, n in enumerate(eight_bit)}
        self.names = [tensor.name for tensor in self.tensors]
        self.names += [self.tensors[n].scale_name for n in eight_bit]
        shapes = [tensor.source.shape for tensor in self.tensors]
        rows = [shapes[n][:1] for n in eight_bit]
        floats = [torch.float32] * len(rows)
        self.file = _image([tensor.file_dtype for tensor in self.tensors], shapes)
        stored = [tensor.stored_dtype for tensor in self.tensors]
        self.stored = _image(stored + floats, shapes + rows)
        self.slot = _image([tensor.slot_dtype for tensor in self.tensors] + floats, shapes + rows)
        self.from_file = _copies(self.file, self.slot, self.scales)
        self.from_stored = _copies(self.stored, self.slot)
        self.pieces = self._pieces()

    @property
    def size(self) -> BlockSize:
        return BlockSize(self.slot.nbytes, self.stored.nbytes, self.file.nbytes)

    @property
    def stored_as_read(self) -> bool:
        """Whether stored and file image have the same form, if not the same numbers."""
        return self.stored.dtypes == self.file.dtypes

    @property
    def changed(self) -> tuple[int, ...]:
        """Numbers of the tensors that are not stored as the file has them."""
        return tuple(
            index
            for index, tensor in enumerate(self.tensors)
            if tensor.delta is not None or tensor.stored_dtype != tensor.file_dtype
        )

    @property
    def staging_bytes(self) -> int:
        """Work space on the card: the largest tensor that changes its dtype on the way."""
        casts = [self.file.size(index) for index in self.from_file.casts]
        casts += [self.stored.size(index) for index in self.from_stored.casts]
        casts += [sum(self.exact_place(index)) for index in self.scales]
        return max(casts, default=0)

    def exact_place(self, index: int) -> tuple[int, int]:
        """Where in the work space a tensor lies in its computing dtype on its way to eight bits,
        behind itself as the file has it, and its bytes."""
        tensor = self.tensors[index]
        begin = -(-self.file.size(index) // ALIGNMENT) * ALIGNMENT
        return begin, tensor.dtype.itemsize * torch.Size(tensor.source.shape).numel()

    def _pieces(self) -> tuple[Piece, ...]:
        """One piece a run of tensors that follow each other in both file and image."""
        pieces: list[Piece] = []
        for tensor, at in zip(self.tensors, self.file.offsets, strict=True):
            source = tensor.source
            last = pieces[-1] if pieces else None
            if (
                last is not None
                and last.path == source.path
                and last.offset + last.nbytes == source.offset
                and last.at + last.nbytes == at
            ):
                pieces[-1] = Piece(last.path, last.offset, last.nbytes + source.nbytes, last.at)
            else:
                pieces.append(Piece(source.path, source.offset, source.nbytes, at))
        return tuple(pieces)


def _image(dtypes: Sequence[torch.dtype], shapes: Sequence[tuple[int, ...]]) -> Image:
    offsets, end = [], 0
    for dtype, shape in zip(dtypes, shapes, strict=True):
        offsets.append(end)
        size = dtype.itemsize * torch.Size(shape).numel()
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return Image(tuple(offsets), tuple(dtypes), tuple(shapes), end)


def _copies(source: Image, target: Image, without: Collection[int] = ()) -> Copies:
    """without: numbers of tensors that become others on the way. What the source lacks, too, is
    left out."""
    pairs = zip(source.dtypes, target.dtypes, strict=False)
    same = [a == b and number not in without for number, (a, b) in enumerate(pairs)]
    runs: list[tuple[int, int, int]] = []
    previous_same = False
    for index, is_same in enumerate(same):
        if is_same:
            begin, to, size = source.offsets[index], target.offsets[index], source.size(index)
            # Padding between neighbours is copied along.
            if previous_same and begin - to == runs[-1][0] - runs[-1][1]:
                first, first_to, _ = runs[-1]
                runs[-1] = (first, first_to, begin + size - first)
            else:
                runs.append((begin, to, size))
        previous_same = is_same
    casts = (index for index, is_same in enumerate(same) if not is_same and index not in without)
    return Copies(tuple(runs), tuple(casts))
