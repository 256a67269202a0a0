"""Read a recipe: YAML, checked against the options of the commands, with messages that point at the line."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onnxprune.cli.settings import ENABLED, KINDS, arguments_of, common_settings, goes_on, model_of, settings_of
from onnxprune.cli.weighing import EFFICIENT, MEASURED
from onnxprune.errors import SettingError
from onnxprune.loop.marked import Marked, read_marked, read_value
from onnxprune.loop.recipe import SCHEMA, Recipe, Step
from onnxprune.runtime.functions import split

_KEYS = ("schema", "model", "output", "defaults", "steps")
_ROUNDS = ("times", "steps", ENABLED)
ITERATE = "iterate"

_At = tuple[str | int, ...]


def read_recipe(path: Path, sets: list[str] | None = None) -> Recipe:
    """The recipe of a file, with overrides of `--set`.

    Raises SettingError, with file and line, for anything that it does not understand.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise SettingError(f"{path} cannot be read: {why}", remedy="`onnxprune init MODEL` writes a recipe") from error
    return read_text(text, str(path), path.parent, sets)


def read_text(text: str, origin: str, folder: Path = Path(), sets: list[str] | None = None) -> Recipe:
    """The recipe that a text is; `origin` is what messages call it, `folder` what its paths are relative to."""
    marked = read_marked(text, origin)
    for given in sets or ():
        _override(marked, given)
    return _Reader(marked).recipe(folder)


class _Reader:
    def __init__(self, marked: Marked) -> None:
        self._marked = marked
        self._defaults: dict[str, Any] = {}

    def recipe(self, folder: Path) -> Recipe:
        data = self._marked.data
        self._mapping(data, (), _KEYS, "a recipe")
        if data.get("schema", SCHEMA) != SCHEMA:
            raise self._wrong(
                ("schema",), f"it is of schema {data['schema']!r}", f"this onnxprune reads schema {SCHEMA}"
            )
        for key in ("model", "output"):
            if (key in data or key == "model") and not isinstance(data.get(key), str):
                raise self._wrong((key,), f"{key!r} is no path", f"give {key}: FILE.onnx")
        self._defaults = data.get("defaults") or {}
        self._mapping(self._defaults, ("defaults",), sorted(common_settings()), "defaults")
        steps = self._steps(data.get("steps"), ("steps",))
        return Recipe(data["model"], steps, data.get("output"), str(folder.resolve()), data)

    def _steps(self, given: Any, at: _At) -> tuple[Step, ...]:
        if not isinstance(given, list) or not given:
            raise self._wrong(at, "'steps' is no list of steps", "give steps, such as `- prune: {max-macs: 50%}`")
        steps = (self._step(item, (*at, number)) for number, item in enumerate(given))
        return tuple(step for step in steps if step is not None)

    def _step(self, given: Any, at: _At) -> Step | None:
        """A step, None for one that is switched off."""
        if isinstance(given, str):
            given = {given: None}
        if not isinstance(given, dict) or len(given) != 1:
            raise self._wrong(at, "a step is one command with its settings", "such as `- prune: {max-macs: 50%}`")
        ((kind, settings),) = given.items()
        at = (*at, kind)
        if kind not in KINDS and kind != ITERATE:
            raise self._unknown(at, kind, [*KINDS, ITERATE], "step")
        settings = {} if settings is None else settings
        where = self._marked.where(at)
        is_on = self._is_on(settings, at)
        if kind == ITERATE:
            self._mapping(settings, at, _ROUNDS, "iterate")
            times = settings.get("times", 10)
            if isinstance(times, bool) or not isinstance(times, int) or times < 1:
                raise self._wrong((*at, "times"), f"times is {times!r}", "it is a whole number of at least 1")
            steps = self._steps(settings.get("steps"), (*at, "steps"))
            return Step(kind, "repeats", (), steps, times, where) if is_on else None
        known = settings_of(kind)
        self._mapping(settings, at, [*known, ENABLED], kind)
        own = {k: v for k, v in settings.items() if k != ENABLED}
        merged = {k: v for k, v in self._defaults.items() if k in known} | own
        try:
            checked = model_of(kind).model_validate(merged).model_dump(by_alias=True, exclude_unset=True)
        except ValidationError as error:
            raise self._invalid(error, at, settings) from None
        for name in ("metric", "criterion", "ranking", "method"):
            self._check_name(name, checked.get(name), (*at, name) if name in own else ("defaults", name))
        step = Step(kind, KINDS[kind], arguments_of(kind, checked), where=where, goes_on=goes_on(kind))
        return step if is_on else None

    def _check_name(self, setting: str, given: str | None, at: _At) -> None:
        """Before the steps in front of it are taken; a metric's script is looked at when it is called."""
        if given is None or (setting == "metric" and split(given) is not None):
            return
        known = _names(setting)
        if given not in known:
            raise self._unknown(at, given, known, setting)

    def _is_on(self, settings: Any, at: _At) -> bool:
        is_on = settings.get(ENABLED, True) if isinstance(settings, dict) else True
        if not isinstance(is_on, bool):
            raise self._wrong((*at, ENABLED), f"{ENABLED} is {is_on!r}", "it is true or false")
        return is_on

    def _mapping(self, given: Any, at: _At, keys: list[str] | tuple[str, ...], what: str) -> None:
        if not isinstance(given, dict):
            raise self._wrong(at, f"{what} is no list of settings", "write `name: value`, a line each")
        for key in given:
            if key not in keys:
                raise self._unknown((*at, key), key, keys, f"setting of {what}")

    def _unknown(self, at: _At, key: str, known: list[str] | tuple[str, ...], what: str) -> SettingError:
        near = get_close_matches(key, known, 1, 0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        return self._wrong(at, f"there is no {what} {key!r}", f"{meant}There are {', '.join(known)}")

    def _invalid(self, error: ValidationError, at: _At, own: Mapping[str, Any]) -> SettingError:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        path = (*at, name) if name in own else ("defaults", name) if name in self._defaults else at
        if first["type"] == "missing":
            return self._wrong(path, f"{at[-1]} needs the setting {name!r}", f"give {name}: …")
        return self._wrong(path, f"{name} is {first['input']!r}", first["msg"])

    def _wrong(self, at: _At, what: str, remedy: str) -> SettingError:
        return SettingError(f"{self._marked.where(at)}: {what}", remedy=remedy)


def _names(setting: str) -> list[str]:
    """What a setting may name, packages from elsewhere asked, too; only what knows it is imported."""
    if setting == "metric":
        from onnxprune.runtime.metrics import METRICS

        return [*METRICS, "script.py:function"]
    if setting == "criterion":
        from onnxprune.importance import criteria

        return sorted(criteria())
    if setting == "ranking":
        from onnxprune.plan.ranking import RANKINGS

        return [*RANKINGS, EFFICIENT, MEASURED]
    from onnxprune.sparsity.choosing import METHODS

    return list(METHODS)


def _override(marked: Marked, given: str) -> None:
    """Carry out `--set KEY=VALUE`: `model`, `output`, `defaults.NAME`, `KIND.NAME` (of all such steps), `N.NAME`."""
    key, sign, text = given.partition("=")
    remedy = "for example --set prune.max-macs=60%, --set 2.samples=100, --set defaults.threads=1"
    if not sign:
        raise SettingError(f"--set {given}: not of the form KEY=VALUE", remedy=remedy)
    data, value = marked.data, read_value(text)
    place, dot, name = key.partition(".")
    if not isinstance(data, dict):
        return  # what is wrong with it is said later
    if not dot:
        data[key] = value
    elif place == "defaults":
        data["defaults"] = {**(data.get("defaults") or {}), name: value}
    else:
        steps = data.get("steps") or []
        if place.isdigit():
            chosen = steps[int(place) - 1 : int(place)] if int(place) else []
        else:
            chosen = _of_kind(steps, place)
        if not chosen:
            raise SettingError(f"--set {given}: the recipe has no step {place!r}", remedy=remedy)
        for step in chosen:
            for kind, settings in step.items():
                step[kind] = {**(settings or {}), name: value}


def _of_kind(steps: Any, kind: str) -> list[dict[str, Any]]:
    """Steps of a kind, those of rounds too."""
    found = []
    for number, step in enumerate(steps if isinstance(steps, list) else []):
        if step == kind:
            steps[number] = step = {kind: None}
        if isinstance(step, dict):
            found += [step] if kind in step else []
            for settings in step.values():
                if isinstance(settings, dict):
                    found += _of_kind(settings.get("steps"), kind)
    return found
