"""From an image of a block to finished weights in a slot, and back.

    file image    -> cast to the computing dtype -> merge deltas -> round to float8, or to eight
                     bits with scales, if asked for
    stored image  -> cast to the computing dtype, or eight bits as they are

Every number takes the same steps on the same device in both ways, so the weights in a slot do not
depend on the tier that the block lives in. Nothing is allocated; on a card, all of it runs on the
stream that is current.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from stages.streaming.delta import SCRATCH_NUMBERS, LowRankDelta, Merger
from stages.streaming.eight_bit import Kind, RoundingErrors, WeightRounder
from stages.streaming.layout import FP8, BlockLayout, Copies, Image

Deltas = Mapping[int, LowRankDelta]
"""By number of the tensor in its layout; float32, on the device."""


def device_deltas(layout: BlockLayout, device: torch.device) -> Deltas:
    """A block's deltas, copied to the device."""
    return {
        number: tensor.delta.to(device)
        for number, tensor in enumerate(layout.tensors)
        if tensor.delta is not None
    }


class Filler:
    """The work space on the device, and the ways to fill a slot with it."""

    def __init__(
        self,
        device: torch.device,
        staging_bytes: int,
        widest_delta: int,
        rounder: WeightRounder | None = None,
    ) -> None:
        """staging_bytes: of the largest tensor that is cast; widest_delta: 0 without deltas;
        rounder: for layouts with weights in eight bits."""
        self._staging = torch.empty(staging_bytes, dtype=torch.uint8, device=device)
        self._merger = Merger(device, widest_delta) if widest_delta else None
        self._rounder = rounder

    def from_file(
        self, layout: BlockLayout, image: torch.Tensor, slot: torch.Tensor, deltas: Deltas
    ) -> None:
        """image: host bytes as read; slot: device bytes; both uint8, at least as long as said."""
        self._copy(layout.file, layout.slot, layout.from_file, image, slot)
        for index, tensor in enumerate(layout.tensors):
            if tensor.kind is not None:
                self._to_eight_bits(layout, index, image, slot, deltas)
                continue
            if tensor.delta is not None:
                assert self._merger is not None
                self._merger.merge(layout.slot.view(slot, index), deltas[index])
            if tensor.rounded:
                weight = layout.slot.view(slot, index)
                small = self._stage(FP8, tensor.source.shape)
                small.copy_(weight)
                weight.copy_(small)

    def from_stored(self, layout: BlockLayout, image: torch.Tensor, slot: torch.Tensor) -> None:
        """image: host bytes as `to_stored` wrote them."""
        self._copy(layout.stored, layout.slot, layout.from_stored, image, slot)

    def to_stored(self, layout: BlockLayout, slot: torch.Tensor, image: torch.Tensor) -> None:
        """Finished weights to host bytes; exact, as the stored dtypes hold them.

        Where the image has been read as the file has it, only what changed is written.
        """
        written = layout.changed if layout.stored_as_read else range(len(layout.stored.offsets))
        for index in written:
            weight = layout.slot.view(slot, index)
            layout.stored.view(image, index).copy_(weight.to(layout.stored.dtypes[index]))

    def _to_eight_bits(
        self,
        layout: BlockLayout,
        index: int,
        image: torch.Tensor,
        slot: torch.Tensor,
        deltas: Deltas,
    ) -> None:
        assert self._rounder is not None
        tensor = layout.tensors[index]
        staged = self._stage(tensor.file_dtype, tensor.source.shape)
        staged.copy_(layout.file.view(image, index), non_blocking=True)
        begin, nbytes = layout.exact_place(index)
        exact = self._staging[begin : begin + nbytes].view(tensor.dtype).view(tensor.source.shape)
        exact.copy_(staged)
        if tensor.delta is not None:
            assert self._merger is not None
            self._merger.merge(exact, deltas[index])
        q, scale = layout.slot.view(slot, index), layout.slot.view(slot, layout.scales[index])
        self._rounder.round(exact, q, scale)

    def _copy(
        self, source: Image, target: Image, copies: Copies, image: torch.Tensor, slot: torch.Tensor
    ) -> None:
        for begin, to, size in copies.runs:
            slot[to : to + size].copy_(image[begin : begin + size], non_blocking=True)
        for index in copies.casts:
            staged = self._stage(source.dtypes[index], source.shapes[index])
            staged.copy_(source.view(image, index), non_blocking=True)
            target.view(slot, index).copy_(staged)

    def _stage(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        size = dtype.itemsize * torch.Size(shape).numel()
        return self._staging[:size].view(dtype).view(shape)


@dataclass(frozen=True)
class WorkSpace:
    """What filling slots of some layouts needs on the device besides the slots.

    staging        bytes for casting
    widest_delta   the widest layer that has a delta, 0 without deltas
    widest, kind   the widest layer that is rounded to eight bits, and to which; None: none is
    """

    staging: int
    widest_delta: int
    widest: int
    kind: Kind | None

    @classmethod
    def of(cls, layouts: Sequence[BlockLayout]) -> WorkSpace:
        tensors = [tensor for layout in layouts for tensor in layout.tensors]
        rounded = [(t.source.shape[1], t.kind) for t in tensors if t.kind is not None]
        return cls(
            max((layout.staging_bytes for layout in layouts), default=0),
            max((t.delta.shape[1] for t in tensors if t.delta is not None), default=0),
            *max(rounded, default=(0, None)),
        )

    @property
    def nbytes(self) -> int:
        merging = 4 * max(SCRATCH_NUMBERS, self.widest_delta) if self.widest_delta else 0
        rounding = WeightRounder.nbytes(self.widest) if self.kind is not None else 0
        return self.staging + merging + rounding

    def filler(self, device: torch.device, errors: RoundingErrors) -> Filler:
        """errors: told of the weights that are rounded."""
        rounder = None
        if self.kind is not None:
            rounder = WeightRounder(device, self.kind, self.widest, errors)
        return Filler(device, self.staging, self.widest_delta, rounder)
