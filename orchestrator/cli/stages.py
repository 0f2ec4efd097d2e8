"""`stages list` and `stages describe`: the contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import answers, tables
from orchestrator.system.terminal import say, say_json

if TYPE_CHECKING:
    from stages.contract import ArtifactSpec, Stage


@click.group()
def stages() -> None:
    """Show which stages there are and what they promise."""


@stages.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_stages(as_json: bool) -> None:
    """All stages, shipped or registered by packages.

    A package registers a stage under the entry point group kiss3d.stages.
    """
    from stages.contract.registry import BUILT_IN, BrokenStageError, known_stages, stage_class

    rows = []
    for name in known_stages():
        origin = "shipped" if name in BUILT_IN else "registered"
        try:
            summary = stage_class(name).summary
        except BrokenStageError as error:
            summary = f"cannot be used: {error}"
        rows.append((name, origin, summary))
    if as_json:
        say_json([dict(zip(("name", "origin", "summary"), row, strict=True)) for row in rows])
    else:
        tables.print_table(("stage", "origin", "summary"), rows)


@stages.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def describe(name: str, as_json: bool) -> None:
    """The contract of stage NAME: inputs, outputs, params."""
    with answers.errors_as_json(as_json):
        cls = _stage_class(name)
    if as_json:
        say_json(_contract(cls))
        return
    say(f"{cls.name} (version {cls.version}): {cls.summary}")
    random = cls.uses_seed(cls.Params())
    say(f"{'depends on the seed' if random else 'the same result with every seed'}\n")
    for title, specs in (("inputs", cls.inputs), ("outputs", cls.outputs)):
        table = [(spec.name, str(spec.kind), _layout(spec), spec.doc) for spec in specs]
        tables.print_table((title, "kind", "layout", "what it is"), table)
        say()
    rows = [
        (field, _type(schema), repr(schema.get("default")), schema.get("description", ""))
        for field, schema in cls.Params.model_json_schema().get("properties", {}).items()
    ]
    if rows:
        tables.print_table(("param", "type", "default", "what it does"), rows)
    else:
        say("no params")


def _stage_class(name: str) -> type[Stage]:
    from orchestrator.errors import ConfigError, UnknownNameError
    from stages.contract.registry import BrokenStageError, UnknownStageError, stage_class

    try:
        return stage_class(name)
    except UnknownStageError as error:
        raise UnknownNameError(
            "stage",
            name,
            error.known,
            listing="kiss3d-orchestrate stages list",
            meant=_stages_of_nodes(name),
        ) from error
    except BrokenStageError as error:
        raise ConfigError(str(error), "mend or reinstall the package it comes from") from error


def _stages_of_nodes(name: str) -> str:
    """Which stages the shipped profiles run in a node of this name."""
    from orchestrator.pipeline.layers import load, profile_names

    used: dict[str, list[str]] = {}
    for profile in profile_names():
        node = load(profile).profile.nodes.get(name)
        if node is not None:
            used.setdefault(node.stage, []).append(profile)
    told = [f"{stage} in {', '.join(profiles)}" for stage, profiles in used.items()]
    if not told:
        return ""
    commands = " or ".join(f"`kiss3d-orchestrate stages describe {stage}`" for stage in used)
    return f"{name} is a node; its stage is {'; '.join(told)}: {commands}"


def _layout(spec: ArtifactSpec) -> str:
    parts = []
    if spec.shape:
        parts.append("(" + ", ".join(map(str, spec.shape)) + ")")
    parts += [spec.dtype] if spec.dtype else []
    if spec.value_range:
        parts.append(f"in [{spec.value_range[0]:g}, {spec.value_range[1]:g}]")
    parts += [f"*{spec.suffix}"] if spec.suffix else []
    parts += ["optional"] if spec.optional else []
    return " ".join(parts)


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = schema.get("type") or " | ".join(
        str(option.get("type", "?")) for option in schema.get("anyOf", [])
    )
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return kind or "any"
    return f"{kind} {'' if low is None else low}..{'' if high is None else high}"


def _contract(cls: type[Stage]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": cls.name,
        "version": cls.version,
        "summary": cls.summary,
        "uses_seed": cls.uses_seed(cls.Params()),
        "inputs": [asdict(spec) for spec in cls.inputs],
        "outputs": [asdict(spec) for spec in cls.outputs],
        "params": cls.Params.model_json_schema().get("properties", {}),
    }
