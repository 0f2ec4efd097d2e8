"""Which LoRAs a stage merges: settings that `flux` (its transformer) and `encode` (CLIP) share."""

from __future__ import annotations

from pydantic import Field

from stages.contract import Params


class LoraChoice(Params):
    """One more LoRA."""

    weights: str = Field(description="a name of the catalogue, a file, or a folder with one file")
    scale: float = Field(1.0, ge=-4, le=4, description="its factor; 0 leaves it out")


class LoraParams(Params):
    """Base of the params of a stage that merges LoRAs."""

    lora: str = Field("kiss3dgen-lora", description="weights of the bundle's LoRA; empty: none")
    lora_scale: float = Field(
        1.0, ge=-4, le=4, description="factor of the bundle's LoRA; 0 leaves it out"
    )
    loras: tuple[LoraChoice, ...] = Field(
        (),
        description="more LoRAs (turbo, style), each {weights, scale}, added up with the bundle's; "
        "give flux and encode the same",
    )

    @property
    def used_loras(self) -> tuple[LoraChoice, ...]:
        """Those that change anything, the bundle's first."""
        own = (LoraChoice(weights=self.lora, scale=self.lora_scale),) if self.lora else ()
        return tuple(choice for choice in (*own, *self.loras) if choice.scale != 0)
