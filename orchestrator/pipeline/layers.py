"""Profiles and the layers on top of them: profile < user file < --set.

A profile is a YAML file that names the graph's nodes. Every key is validated; an unknown one is an
error that names the nearest valid key. `Settings` remembers for every value where it came from.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.errors import ConfigError, UnknownNameError, UsageError, brief
from orchestrator.pipeline.names import NODE_NAME
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile, Runtime
from orchestrator.system.reading import YAML_BYTES, read_limited, yaml_data
from stages.contract import Stage
from stages.contract.registry import BrokenStageError, UnknownStageError, stage_class

_HERE = Path(__file__).resolve().parents[1]
DEFAULT = "default"
EMPTY = "none"
DATA_FILES = frozenset({"models", "vram"})
"""Tables that lie beside the profiles and are none."""
RESERVED_NAMES = frozenset({"input", "result", "runtime", "seed"})
"""A node of such a name would collide with a folder, the user's input or a --set path."""


@dataclass(frozen=True)
class Settings:
    """The effective configuration.

    profile   the validated result of all layers
    name      name of the profile at the bottom
    sources   dotted path of a value -> the layer that set it; absent means a default
    """

    profile: Profile
    name: str
    sources: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """(dotted path, value, source) of every value, stage params with their defaults."""
        plain = self.profile.model_dump()
        for name, node in plain["nodes"].items():
            node["params"] = params_of(name, self.profile.nodes[name]).model_dump()
        for path, value in _leaves(plain):
            yield path, value, _source_of(path, self.sources)


def _source_of(path: str, sources: Mapping[str, str]) -> str:
    while path:
        if path in sources:
            return sources[path]
        path = path.rpartition(".")[0]
    return DEFAULT


def _file_source(user_file: Path) -> str:
    return f"file {user_file.name}"


_HOW_TO_MEND = (
    "a file of settings has lines such as nodes: {isomer: {params: {radius: 4.2}}}; "
    "`kiss3d-orchestrate config show` lists every key"
)


def config_folder() -> Path:
    """Where the profiles lie: beside the package in a checkout, inside it when installed."""
    checkout = _HERE.parent / "configs"
    return checkout if checkout.is_dir() else _HERE / "configs"


def profile_names() -> list[str]:
    return sorted({path.stem for path in config_folder().glob("*.yaml")} - DATA_FILES)


def load(
    profile: str,
    user_file: Path | None = None,
    sets: Sequence[str] = (),
    fast: bool = False,
    from_mesh: bool = False,
) -> Settings:
    """Merge the layers and validate. Raises `ConfigError` or `UnknownNameError`.

    profile: a shipped one, or "none" for a user file that describes a whole graph itself.
    from_mesh, fast: lay the profile's section of that name over it, below the user file; a profile
    without `from_mesh` begins with what it begins with.
    """
    names = profile_names()
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if profile in names:
        shipped = _read_yaml(config_folder() / f"{profile}.yaml")
        _merge(merged, shipped, f"profile {profile}", sources)
    elif profile != EMPTY or user_file is None:
        raise UnknownNameError("profile", profile, [*names, "auto"])
    if from_mesh and (layer := merged.get("from_mesh")):
        _check_keys(layer, Profile, "from_mesh")
        _merge(merged, layer, "from_mesh", sources)
    if fast:
        _merge(merged, _fast_layer(profile, merged), "--fast", sources)
    if user_file is not None:
        layer = _read_yaml(user_file)
        layer.pop("profile", None)
        _merge(merged, layer, _file_source(user_file), sources)
        with _told_of(user_file):
            _check_layout(merged)
    _apply_sets(merged, sets, sources, profile)
    try:
        return Settings(_validate(merged), profile, sources)
    except UsageError as error:
        if user_file is not None and error.setting:
            at_fault = _source_of(error.setting, sources)
            if at_fault in (_file_source(user_file), DEFAULT):  # what is missing has no source
                error.message = f"{user_file}: {error.message}"
        raise


@contextlib.contextmanager
def _told_of(user_file: Path) -> Iterator[None]:
    """Name the file in what is wrong with its layout."""
    try:
        yield
    except UsageError as error:
        error.message = f"{user_file}: {error.message}"
        error.hint = error.hint or _HOW_TO_MEND
        raise


def _fast_layer(profile: str, merged: Mapping[str, Any]) -> Mapping[str, Any]:
    layer = merged.get("fast")
    if not isinstance(layer, Mapping) or not layer:
        raise ConfigError(f"--fast: profile {profile} has no faster settings", "leave --fast out")
    _check_keys({**layer}, Profile, "fast")
    return layer


def from_record(
    name: str, data: Mapping[str, Any], sources: Mapping[str, str], sets: Sequence[str] = ()
) -> Settings:
    """The settings that a manifest recorded, with new `--set`s on top."""
    merged = json.loads(json.dumps(data))
    known = dict(sources)
    _apply_sets(merged, sets, known, name)
    return Settings(_validate(merged), name, known)


def base_profile(user_file: Path | None) -> str | None:
    """The profile that a user file builds on (its key `profile`), if it names one."""
    if user_file is None:
        return None
    name = _read_yaml(user_file).get("profile")
    return str(name) if name is not None else None


def node_stage(name: str, node: NodeConfig) -> type[Stage]:
    """The stage class of a node. Raises `UnknownNameError` or `ConfigError`."""
    try:
        return stage_class(node.stage)
    except UnknownStageError as error:
        unknown = UnknownNameError("stage", node.stage, error.known, f"node {name}")
        unknown.setting = f"nodes.{name}.stage"
        raise unknown from error
    except BrokenStageError as error:
        raise ConfigError(
            f"node {name}: {error}", "mend or reinstall the package it comes from"
        ) from error


def params_of(name: str, node: NodeConfig, attempt: Attempt | None = None) -> BaseModel:
    """A node's validated params, with those of a rung on top."""
    cls = node_stage(name, node).Params
    rung = attempt.params if attempt else {}
    given = {**node.params, **rung}

    def setting(key: str) -> str:
        return f"nodes.{name}.attempts" if key in rung else f"nodes.{name}.params.{key}"

    for key in given:
        if key not in cls.model_fields:
            place, listing = f"node {name} ({node.stage})", _listing(node.stage)
            unknown = UnknownNameError("param", key, cls.model_fields, place, listing)
            unknown.setting = setting(key)
            raise unknown
    try:
        return cls.model_validate(given)
    except ValidationError as error:
        listing = f"`kiss3d-orchestrate stages describe {node.stage}` says what it may be"
        wrong = _config_error(error, f"{name}.", listing)
        keys = error.errors()[0]["loc"]  # empty: several params say it together
        wrong.setting = setting(str(keys[0])) if keys else ""
        raise wrong from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml_data(read_limited(path, YAML_BYTES).decode())
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}", "check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text file: {error}", _HOW_TO_MEND) from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is not valid YAML, or no profile: {error}", _HOW_TO_MEND
        ) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: expected a mapping at the top, got {type(data).__name__}", _HOW_TO_MEND
        )
    return data


def _merge(
    base: dict[str, Any],
    layer: Mapping[str, Any],
    source: str,
    sources: dict[str, str],
    at: str = "",
) -> None:
    """Deep-merge `layer` into `base`; mappings merge, anything else replaces."""
    for key, value in layer.items():
        path = f"{at}{key}"
        if isinstance(value, Mapping) and isinstance(base.get(key, {}), dict):
            _merge(base.setdefault(key, {}), value, source, sources, f"{path}.")
        else:
            base[key] = value
            sources[path] = source


def _apply_sets(
    merged: dict[str, Any], sets: Sequence[str], sources: dict[str, str], profile: str
) -> None:
    _check_layout(merged)
    for text in sets:
        _merge(merged, _parse_set(text, merged, profile), f"--set {text}", sources)


def _parse_set(text: str, merged: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """`isomer.target_faces=5000` -> a layer. The first word is a node, or seed, or runtime."""
    path, equals, raw = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f'--set "{brief(text)}": expected NODE.PARAM=VALUE', "e.g. --set isomer.radius=4.2"
        )
    try:
        value = yaml_data(raw)
    except ValueError as error:
        raise ConfigError(f'--set "{brief(text)}": the value is not valid YAML: {error}') from error
    nodes = merged.get("nodes", {})
    if keys[0] in nodes:
        keys = ["nodes", keys[0], *_node_path(keys[0], nodes[keys[0]], keys[1:], text)]
    elif keys[0] not in ("runtime", "seed"):
        where = f"profile {profile}, in --set {text}"
        known = [*nodes, "runtime", "seed"]
        raise UnknownNameError("node", keys[0], known, where, meant=_meant(keys, nodes))
    layer: dict[str, Any] = {}
    inner = layer
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    return layer


def _meant(keys: Sequence[str], nodes: Mapping[str, Any]) -> str:
    """What a --set that begins with a stage's name, or with a param's, would have to be."""
    stages = {name: str(node.get("stage", "")) for name, node in nodes.items()}
    for name, stage in stages.items():
        if stage == keys[0]:
            rest = ".".join(keys[1:]) or "PARAM"
            return f"{stage} is the stage of node {name}: --set {name}.{rest}=VALUE"
    if len(keys) > 1:
        return ""
    owners = [
        f"node {name} (stage {stage}): --set {name}.{keys[0]}=VALUE"
        for name, stage in stages.items()
        if keys[0] in node_stage(name, NodeConfig(stage=stage)).Params.model_fields
    ]
    return f"{keys[0]} is a param of {', or of '.join(owners)}" if owners else ""


def _node_path(name: str, node: Mapping[str, Any], keys: list[str], text: str) -> list[str]:
    """A stage's param wins over a field of the node with the same name."""
    if not keys:
        raise ConfigError(
            f'--set "{brief(text)}": which param of {name}?', f"try --set {name}.PARAM=VALUE"
        )
    cls = node_stage(name, NodeConfig(stage=str(node.get("stage", "")))).Params
    if keys[0] in cls.model_fields:
        return ["params", *keys]
    if keys[0] in NodeConfig.model_fields:
        return keys
    known = [*cls.model_fields, *NodeConfig.model_fields]
    listing = _listing(str(node.get("stage", "")))
    raise UnknownNameError("param", keys[0], known, f"node {name}", listing)


def _listing(stage: str) -> str:
    """The command that shows what a stage's params are."""
    return f"kiss3d-orchestrate stages describe {stage}"


def _validate(merged: Mapping[str, Any]) -> Profile:
    _check_layout(merged)
    try:
        profile = Profile.model_validate(merged)
    except ValidationError as error:
        raise _config_error(error) from error
    for name, config in profile.nodes.items():
        for attempt in [None, *config.attempts]:
            params_of(name, config, attempt)
    return profile


def _check_layout(merged: Mapping[str, Any]) -> None:
    """Mappings where mappings belong, known keys, usable node names; values come later."""
    _check_keys(merged, Profile, "")
    nodes = merged.get("nodes", {})
    if not isinstance(nodes, Mapping):
        raise ConfigError("nodes: expected a mapping of node names")
    for name, node in nodes.items():
        if not NODE_NAME.fullmatch(str(name)) or str(name).lower() in RESERVED_NAMES:
            raise ConfigError(
                f'nodes: "{brief(name)}" cannot be the name of a node',
                "letters, digits, - and _, a letter first; not one of "
                + ", ".join(sorted(RESERVED_NAMES)),
            )
        _check_keys(node, NodeConfig, f"nodes.{name}")
        attempts = node.get("attempts", [])
        if not isinstance(attempts, list):
            raise ConfigError(f"nodes.{name}.attempts: expected a list of rungs")
        for attempt in attempts:
            _check_keys(attempt, Attempt, f"nodes.{name}.attempts")
    _check_keys(merged.get("runtime", {}), Runtime, "runtime")


def _check_keys(data: object, model: type[BaseModel], where: str) -> None:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'profile'}: expected a mapping, got {type(data).__name__}")
    for key in data:
        if key not in model.model_fields:
            raise UnknownNameError("key", str(key), model.model_fields, where)


def _config_error(error: ValidationError, prefix: str = "", hint: str = "") -> ConfigError:
    first = error.errors()[0]
    where = (prefix + ".".join(str(item) for item in first["loc"])).rstrip(".")
    said = first["msg"].removeprefix("Value error, ")
    # What several params say together is told by a message of ours; the input is all of them then.
    given = f" (got {brief(repr(first.get('input')))})" if first["loc"] else ""
    wrong = ConfigError(f"{where}: {said}{given}", hint)
    wrong.setting = where
    return wrong


def _leaves(data: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value
