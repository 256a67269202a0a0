"""What a search may turn: a setting of a recipe, and its values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from onnxprune.errors import SettingError

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"(?P<mild>{_NUMBER})(?P<unit>%?):(?P<far>{_NUMBER})(?P<other>%?)")
_DIGITS = 6  # significant, of values that are tried


@dataclass(frozen=True)
class Knob:
    """A setting as `--set` names it, and either a range from its mild end to its far one, or `choices`."""

    key: str
    mild: float = 0.0
    far: float = 0.0
    unit: str = ""
    whole: bool = False
    choices: tuple[str, ...] = ()

    def spell(self, value: float | str) -> str:
        """A value as it stands in a recipe."""
        if isinstance(value, str):
            return value
        return f"{round(value)}{self.unit}" if self.whole else f"{value:.{_DIGITS}g}{self.unit}"

    def values(self) -> tuple[int | str, ...] | None:
        """All values that it has, from mild to far; None for a range of real numbers."""
        if self.choices:
            return self.choices
        if not self.whole:
            return None
        step = 1 if self.far > self.mild else -1
        return tuple(range(round(self.mild), round(self.far) + step, step))

    def suggest(self, trial: Any) -> str:
        """A value that an Optuna trial picks."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, list(self.choices)))
        low, high = sorted((self.mild, self.far))
        if self.whole:
            return self.spell(trial.suggest_int(self.key, round(low), round(high)))
        return self.spell(trial.suggest_float(self.key, low, high))


def read_knob(given: str) -> Knob:
    """`prune.max-macs=95%:20%`, `prune.round-to=1:32` or `prune.criterion=l2|wanda`. Raises SettingError."""
    key, sign, values = given.partition("=")
    remedy = "give a range from mild to far, --tune prune.max-macs=95%:20%, or choices, --tune prune.criterion=l2|wanda"
    if not sign or "." not in key:
        raise SettingError(f"--tune {given}: not of the form STEP.SETTING=VALUES", remedy=remedy)
    found = _RANGE.fullmatch(values)
    if found is None:
        choices = tuple(part.strip() for part in values.split("|"))
        if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
            raise SettingError(f"--tune {given}: neither a range nor several choices", remedy=remedy)
        return Knob(key, choices=choices)
    mild, far = float(found["mild"]), float(found["far"])
    if found["unit"] != found["other"] or mild == far:
        raise SettingError(f"--tune {given}: the ends are the same, or of two kinds", remedy=remedy)
    is_whole = not found["unit"] and all("." not in found[end] and "e" not in found[end] for end in ("mild", "far"))
    return Knob(key, mild, far, found["unit"], is_whole)
