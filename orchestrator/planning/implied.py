"""Options that stand for `--set`s: --caption, --background, --views and --allow-tf32."""

from __future__ import annotations

import json

from orchestrator.errors import ConfigError
from orchestrator.pipeline import layers
from orchestrator.pipeline.profile import Profile
from orchestrator.planning.options import Options

TF32 = "allow_tf32"
"""Param of stages.models.kernels that `--allow-tf32` sets."""


def implied_sets(profile: Profile, options: Options) -> list[str]:
    """The `--set`s of the nodes that an option is about.

    Raises `ConfigError` for an option that no node of the profile heeds, and for an empty caption.
    """
    nodes = {name: node for name, node in profile.nodes.items() if node.enabled}

    def of_stage(stage: str) -> list[str]:
        return [name for name, node in nodes.items() if node.stage == stage]

    sets: list[str] = []

    def add(option: str, names: list[str], param: str, value: object, why: str, hint: str) -> None:
        if not names:
            raise ConfigError(f"{option}: {why}", hint)
        # A JSON value is a YAML one, as long as its letters stay letters.
        told = json.dumps(value, ensure_ascii=False)
        sets.extend(f"{name}.{param}={told}" for name in names)

    if options.caption is not None:
        text = " ".join(options.caption.split())
        if not text:
            raise ConfigError("--caption is empty", "leave it out, or describe the picture")
        why = "this profile describes no picture in words"
        hint = 'choose a profile with a node of the stage "caption" (--profile), or leave it out'
        add("--caption", of_stage("caption"), "text", text, why, hint)
    cuts = of_stage("preprocess")
    if options.background is not None:
        why = "this profile cuts nothing out"
        add("--background", cuts, "background", options.background, why, "leave it out")
    if options.allow_tf32:
        heeds = [n for n in nodes if TF32 in layers.node_stage(n, nodes[n]).Params.model_fields]
        why = "no stage of this profile multiplies matrices on a card"
        hint = "choose a profile with models (--profile), or leave it out"
        add("--allow-tf32", heeds, TF32, True, why, hint)
    if options.views != "named":
        why = "this profile looks at no pictures"
        add("--views", cuts, "sides", options.views, why, "leave it out")
    return sets
