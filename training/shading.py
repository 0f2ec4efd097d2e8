"""How traced scenes look: materials, light, highlights. sRGB in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.drawn import draw
from training.parts import Dice
from training.scenes import Scenes

DRAWN = 0.12
"""Share of the scenes that look like drawings."""
SURROUNDED = 0.35
"""Share of the scenes that a place lights from all sides and is mirrored in, as in photographs."""


@dataclass
class Look:
    """colors (N, 3, S, S), meaningful where the mask is; paint (N, 3, S, S) the same without light,
    shadows and highlights; behind (N, 3, S/2, S/2) the paint of the last surfaces; drawn (N,) bool:
    as in a flat drawing."""

    colors: Tensor
    paint: Tensor
    behind: Tensor
    drawn: Tensor


@dataclass
class Surfaces:
    """The first and the last surfaces of N scenes, one below the other: they are painted alike.

    part (N, 1, R, S); place, normal (N, 3, R, S); see `Scenes`.
    """

    part: Tensor
    place: Tensor
    normal: Tensor

    @staticmethod
    def of(scenes: Scenes) -> Surfaces:
        behind = scenes.behind.reshape(*scenes.behind.shape[:2], -1, scenes.mask.shape[3])
        normal, place, part = behind.float().split((3, 3, 1), 1)
        return Surfaces(
            torch.cat([scenes.part.long(), part.round().long()], 2),
            torch.cat([scenes.place.float(), place], 2),
            torch.cat([scenes.normal.float(), normal], 2),
        )

    def take(self, index: Tensor) -> Surfaces:
        return Surfaces(self.part[index], self.place[index], self.normal[index])


def _first_and_last(values: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, R, S) of `Surfaces` -> (N, 3, S, S) and (N, 3, S/2, S/2)."""
    size = values.shape[3]
    last = values[:, :, size:]
    return values[:, :, :size], last.reshape(*last.shape[:2], size // 2, size // 2)


def shade(scenes: Scenes, materials: Tensor, places: Tensor, generator: torch.Generator) -> Look:
    """materials (M, 3, T, T), photographs of places (P, 3, T, T), in [0, 1]."""
    dice = Dice(len(scenes.mask), generator)

    def number(low: float, high: float) -> Tensor:
        return dice.uniform(low, high, 1, 1, 1)

    surfaces = Surfaces.of(scenes)
    colors_of_parts = part_colors(surfaces, scenes.dark, dice)
    plain, plain_behind = _first_and_last(colors_of_parts)
    albedo, behind = _first_and_last(
        _patterned(colors_of_parts, surfaces, scenes.dark.shape[1], materials, dice)
    )
    normal = scenes.normal
    lit, sky = scenes.shade[:, :1], scenes.shade[:, 1:]
    key = scenes.light[:, :, None, None]
    hard = dice.chance(0.2).float()[:, None, None, None] * number(0.4, 1.0)  # sun, a bare lamp
    warm = 1.0 + (
        dice.uniform(-0.08, 0.08, 3, 1, 1) * dice.chance(0.5).float()[:, None, None, None]
    )
    ambient = (
        number(0.25, 0.75)
        * (1.0 - 0.75 * hard)
        * (0.75 + 0.25 * normal[:, 1:2])
        * (1.0 - number(0.0, 1.0) * (1.0 - sky))
    )
    shadow = 1.0 - torch.maximum(number(0.2, 1.0), hard) * (1.0 - lit)
    straight = (normal * key).sum(1, keepdim=True)
    wrap = number(0.0, 0.4)  # skin and plush scatter light round the edge
    diffuse = ((straight + wrap) / (1.0 + wrap)).clamp(min=0.0) * shadow
    image = albedo * (ambient + number(0.25, 0.9) * (1.0 + 0.8 * hard) * diffuse * warm)
    other = functional.normalize(
        dice.normal(3) + torch.tensor([0.0, 0.3, 0.8], device=dice.device), dim=1
    )
    fill = (normal * other[:, :, None, None]).sum(1, keepdim=True).clamp(min=0.0)
    image = image + albedo * fill * number(0.0, 0.35)
    shiny = (
        dice.uniform(0.0, 1.0, 1, 1, 1) ** 2
        * 0.8
        * (dice.chance(0.65).float()[:, None, None, None])
    )
    for way in (key, other[:, :, None, None]):
        middle = functional.normalize(
            way + torch.tensor([0.0, 0.0, 1.0], device=dice.device)[:, None, None], dim=1
        )
        facing = (normal * middle).sum(1, keepdim=True).clamp(min=0.0)
        image = image + shiny * facing ** torch.exp(number(1.5, 5.0))
    rim = (1.0 - normal[:, 2:].clamp(0.0, 1.0)) ** 3 * number(0.0, 1.0) ** 3 * 0.6
    image = image + rim
    some = torch.nonzero(dice.chance(SURROUNDED))[:, 0]
    lamp = diffuse[some] * warm[some] * number(0.0, 0.6)[some]
    image[some] = _surrounded(
        albedo[some], normal[some].float(), sky[some], lamp, places, Dice(len(some), generator)
    )
    gamma = 1.0 / number(0.8, 1.6)
    colors = image.clamp(0.0, 1.0) ** gamma
    paint, behind = albedo**gamma, behind**gamma
    order = torch.randperm(dice.count, generator=generator, device=dice.device)
    some = order[: round(dice.count * DRAWN)]
    drawn = torch.zeros(dice.count, dtype=torch.bool, device=dice.device)
    if len(some):
        drawn[some] = True
        colors[some], paint[some], behind[some] = draw(
            scenes.take(some),
            plain[some],
            plain_behind[some],
            straight[some] * lit[some],
            Dice(len(some), generator),
        )
    return Look(colors, paint, behind, drawn)


def _surrounded(
    albedo: Tensor, normal: Tensor, sky: Tensor, lamp: Tensor, places: Tensor, dice: Dice
) -> Tensor:
    """(N, 3, S, S) with the light of a photograph that lies all round, as on a mirror ball, and
    with its reflection. lamp (N, 3, S, S): besides, on the paint."""
    seen = places[dice.whole(0, len(places) - 1)] ** dice.uniform(1.0, 2.2, 1, 1, 1)
    turned = dice.chance(0.5)[:, None, None, None]
    seen = torch.where(turned, seen.flip(3), seen)
    soft = functional.interpolate(
        functional.avg_pool2d(seen, seen.shape[-1] // 6), size=48, mode="bicubic"
    ).clamp(min=0.0)
    soft = soft / soft.mean((1, 2, 3), keepdim=True).clamp(min=0.02)
    tint = dice.uniform(0.2, 1.0, 1, 1, 1)
    soft = soft.mean(1, keepdim=True) * (1.0 - tint) + soft * tint
    # A ball's mirror image of the direction d lies where its surface has the normal between d and
    # the viewer's; of what a surface with normal n mirrors, where the ball has n itself.
    half = torch.sqrt(2.0 * (1.0 + normal[:, 2:]).clamp(min=0.05))
    around = functional.grid_sample(soft, _on_ball(normal / half), align_corners=False)
    light = around * (1.0 - dice.uniform(0.2, 1.0, 1, 1, 1) * (1.0 - sky))
    image = albedo * (light * dice.uniform(0.45, 0.95, 1, 1, 1) + lamp)
    sharp = functional.grid_sample(seen, _on_ball(normal), align_corners=False)
    dull = functional.interpolate(
        functional.avg_pool2d(seen, 16), size=seen.shape[-1], mode="bilinear"
    )
    blunt = functional.grid_sample(dull, _on_ball(normal), align_corners=False)
    mirrored = torch.where(dice.chance(0.4)[:, None, None, None], sharp, blunt)
    straight = dice.uniform(0.0, 0.3, 1, 1, 1) ** 1.5
    metal = dice.chance(0.12)[:, None, None, None]
    straight = torch.where(metal, dice.uniform(0.4, 0.8, 1, 1, 1) * albedo, straight)
    grazing = (1.0 - normal[:, 2:].clamp(0.0, 1.0)) ** 5 * (~dice.chance(0.3)).float()[
        :, None, None, None
    ]
    share = straight + (1.0 - straight) * grazing * 0.6
    return image * (1.0 - share) + mirrored * share * dice.uniform(0.8, 1.6, 1, 1, 1)


def _on_ball(normal: Tensor) -> Tensor:
    """(N, S, S, 2): where a picture of a ball shows these normals (N, 3, S, S), for
    `grid_sample`."""
    return torch.stack([normal[:, 0], -normal[:, 1]], 3).clamp(-0.98, 0.98)


def part_colors(surfaces: Surfaces, dark: Tensor, dice: Dice) -> Tensor:
    """(N, 3, R, S): a colour a part. dark: see `Scenes`."""
    parts = dark.shape[1]
    hue, saturation, value = dice.uniform(0, 1, parts, 3).unbind(2)
    alike = dice.chance(0.55)[:, None]
    hue = torch.where(alike, hue[:, :1] * 0.9 + hue * 0.1, hue)
    single = dice.chance(0.25)[:, None]
    hue = torch.where(single, hue[:, :1], hue)
    saturation = torch.where(single, saturation[:, :1], saturation) ** 0.8
    value = torch.where(single, value[:, :1], value) * 0.9 + 0.1
    turns = torch.tensor([0.0, 2.1, 4.2], device=dice.device)
    pure = (hue[..., None] * 6.28 + turns).cos() * 0.5 + 0.5
    color = (pure * saturation[..., None] + 1.0 - saturation[..., None]) * value[..., None]
    white = dice.chance(0.14)[:, None] | (dice.uniform(0, 1, parts) < 0.12)
    color = torch.where(white[..., None], dice.uniform(0.86, 1.0, parts)[..., None], color)
    color = torch.where((dark > 0.5)[..., None], color * 0.12, color)
    spread = surfaces.part.flatten(2).expand(-1, 3, -1)
    return torch.gather(color.transpose(1, 2), 2, spread).reshape(surfaces.normal.shape)


def _patterned(
    plain: Tensor, surfaces: Surfaces, parts: int, materials: Tensor, dice: Dice
) -> Tensor:
    """(N, 3, R, S): some of the `parts` with the texture of a picture or a pattern."""
    albedo, count = plain.clone(), dice.count
    order = torch.randperm(count, generator=dice.generator, device=dice.device)
    pictured = order[: max(1, int(count * 0.45))]
    albedo[pictured] = _textured(
        albedo[pictured],
        surfaces.take(pictured),
        parts,
        materials,
        Dice(len(pictured), dice.generator),
    )
    striped = dice.chance(0.15).float()[:, None, None, None]
    waves = torch.einsum(
        "nkc,nchw->nkhw", dice.normal(2, 3) * dice.uniform(3.0, 22.0, 1, 1), surfaces.place
    )
    waves = torch.sin(waves + dice.uniform(0.0, 6.3, 2, 1, 1)).prod(1, keepdim=True)
    pattern = torch.where(dice.chance(0.6)[:, None, None, None], waves.sign(), waves) * 0.5 + 0.5
    return (albedo * (1.0 - striped * pattern * dice.uniform(0.2, 0.8, 1, 1, 1))).clamp(0.0, 1.0)


def _textured(
    albedo: Tensor, surfaces: Surfaces, parts: int, materials: Tensor, dice: Dice
) -> Tensor:
    """Some parts get the picture's own colours, or its grain on the part's colour."""
    texture = _triplanar(surfaces, materials, dice)
    strength = dice.uniform(0.3, 1.0, 1, 1, 1)
    grey = texture.mean(1, keepdim=True)
    own = dice.chance(0.5)[:, None, None, None]
    looks = torch.where(own, texture, albedo * (0.4 + grey))
    some = dice.uniform(0, 1, parts) < dice.uniform(0.3, 1.3, 1)
    there = torch.gather(some.float(), 1, surfaces.part.flatten(1)).reshape(surfaces.part.shape)
    return albedo + (looks - albedo) * strength * there


def _triplanar(surfaces: Surfaces, materials: Tensor, dice: Dice) -> Tensor:
    """A material a scene, projected along the three axes of the object's frame and blended by the
    normals (which are in camera axes: any fixed frame does for blending)."""
    chosen = materials[dice.whole(0, len(materials) - 1)]
    place = surfaces.place.clamp(-3.0, 3.0) * dice.spread(0.4, 1.6, 1, 1, 1) + dice.uniform(
        -1, 1, 3, 1, 1
    )
    weight = surfaces.normal.abs() ** 4 + 1e-4
    weight = weight / weight.sum(1, keepdim=True)
    looks = torch.zeros_like(place)
    for axis, pair in enumerate(((1, 2), (0, 2), (0, 1))):
        grid = place[:, pair].permute(0, 2, 3, 1)
        seen = functional.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False)
        looks = looks + seen * weight[:, axis : axis + 1]
    return looks
