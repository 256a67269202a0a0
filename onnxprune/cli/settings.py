"""The options of commands as settings of recipes: what a command line takes, a recipe takes under the same name."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from typer.models import ArgumentInfo, OptionInfo

from onnxprune.cli.composing import composed
from onnxprune.loop.recipe import Role

KINDS: dict[str, Role] = {
    "prune": "makes",
    "apply": "makes",
    "sparsify": "makes",
    "densify": "makes",
    "quantize": "makes",
    "cast": "makes",
    "recover": "makes",
    "validate": "judges",
    "sensitivity": "looks",
    "check-sparsity": "checks",
    "engine": "builds",
}
"""Commands that can be steps, and what they do with the model."""

ENABLED = "enabled"
"""A setting of every step: whether it is taken."""

_STATE = {"checkpoints", "resume"}
_OWN = {"output", "as_json", "verbose", "quiet", "dry_run"} | _STATE  # what the run itself sets
_GIVEN = {"model", "dense", "pruned"}  # arguments that the run fills in


@dataclass(frozen=True)
class Setting:
    """One option of a command: its name in recipes, what switches it on and off, its type and default."""

    name: str
    flag: str
    off: str | None
    type: Any
    default: Any
    help: str
    least: float | None
    positional: bool = False


@cache
def settings_of(command: str) -> dict[str, Setting]:
    """The settings that a step of this command takes, by name."""
    return {setting.name: setting for setting in _settings(command)}


def goes_on(command: str) -> bool:
    """Whether the command can go on from a state that it keeps in a folder."""
    return {parameter.name for parameter in _parameters(command)} >= _STATE


def _parameters(command: str) -> list[inspect.Parameter]:
    module = command.replace("-", "_")
    function = composed(getattr(import_module(f"onnxprune.cli.{module}"), module))
    return list(inspect.signature(function).parameters.values())


def _settings(command: str) -> Iterator[Setting]:
    for parameter in _parameters(command):
        if parameter.name in _OWN | _GIVEN:
            continue
        kind, info = get_args(parameter.annotation)
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        if isinstance(info, ArgumentInfo):
            yield Setting(parameter.name, "", None, kind, default, info.help or "", None, positional=True)
        elif isinstance(info, OptionInfo):
            # within Annotated, Typer takes the first name for the default until it builds the command
            names = [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]
            spelled = [name for name in names if name.startswith("--")]
            flag, _, off = (spelled or ["--" + parameter.name.replace("_", "-")])[0].partition("/")
            yield Setting(flag.removeprefix("--"), flag, off or None, kind, default, info.help or "", info.min)


def _listed(given: Any) -> Any:
    return given if isinstance(given, list) or given is None else [given]


def _is_list(kind: Any) -> bool:
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return any(get_origin(option) is list for option in options)


@cache
def model_of(command: str) -> type[BaseModel]:
    """What pydantic checks a step of this command against; its JSON schema is what editors show."""
    fields: dict[str, Any] = {}
    for setting in settings_of(command).values():
        kind = Annotated[setting.type, BeforeValidator(_listed)] if _is_list(setting.type) else setting.type
        fields[setting.name.replace("-", "_")] = (
            kind,
            Field(setting.default, alias=setting.name, description=setting.help, ge=setting.least),
        )
    config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    made: type[BaseModel] = create_model(f"{command.title()}Step", __config__=config, **fields)
    return made


def arguments_of(command: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """The command line for settings that `model_of` let pass; what is null is left out."""
    found: list[str] = []
    for name, setting in settings_of(command).items():
        value = given.get(name)
        if value is None:
            continue
        if setting.positional:
            found.insert(0, str(value))
        elif isinstance(value, bool):
            found += [setting.flag] if value else [setting.off] if setting.off else []
        else:
            found += [f"{setting.flag}={item}" for item in (value if isinstance(value, list) else [value])]
    return tuple(found)


def common_settings() -> set[str]:
    """What `defaults` of a recipe may hold: settings of any kind of step, no positional ones."""
    return {s.name for command in KINDS for s in settings_of(command).values() if not s.positional}


_SWITCH = {ENABLED: {"type": "boolean", "description": "Whether the step is taken."}}


def schema() -> dict[str, Any]:
    """A recipe's JSON schema, for editors."""
    steps = []
    defaults: dict[str, Any] = {}
    for command in KINDS:
        of = _numbers_too(model_of(command).model_json_schema())
        defaults = {**of["properties"], **defaults}
        of = {**of, "properties": {**of["properties"], **_SWITCH}}
        steps.append(_single(command, {k: v for k, v in of.items() if k != "title"}))
    rounds = {
        "type": "object", "additionalProperties": False, "required": ["steps"],
        "properties": {"times": {"type": "integer", "minimum": 1}, "steps": {"$ref": "#/$defs/steps"}, **_SWITCH},
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "onnxprune recipe", "type": "object", "additionalProperties": False, "required": ["model", "steps"],
        "properties": {
            "schema": {"const": 1}, "model": {"type": "string"}, "output": {"type": "string"},
            "defaults": {
                "type": "object", "additionalProperties": False,
                "properties": {k: v for k, v in defaults.items() if k in common_settings()},
            },
            "steps": {"$ref": "#/$defs/steps"},
        },
        "$defs": {
            "steps": {"type": "array", "minItems": 1, "items": {"oneOf": [*steps, _single("iterate", rounds)]}}
        },
    }  # fmt: skip


def _numbers_too(of: Any) -> Any:
    """A schema in which text may be a number: `max-drop: 0.01` is one to YAML, and text to the command."""
    if isinstance(of, list):
        return [_numbers_too(item) for item in of]
    if not isinstance(of, dict):
        return of
    found = {key: _numbers_too(item) for key, item in of.items()}
    return {**found, "type": ["string", "number"]} if of.get("type") == "string" else found


def _single(name: str, of: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: of}, "required": [name], "additionalProperties": False}
