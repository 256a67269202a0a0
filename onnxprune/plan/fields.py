"""Reading JSON that people and other programs write: whatever is wrong is named by file and field."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from onnxprune.errors import PlanError

_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a whole number", float: "a number",
          bool: "true or false", type(None): "null"}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A value somewhere in a JSON document; every reading raises PlanError where it is not what it should be."""

    origin: str
    path: str
    value: Any

    def wrong(self, why: str) -> PlanError:
        where = f"{self.path}: " if self.path else ""
        return PlanError(f"{self.origin}: {where}{why}", remedy="make the plan again, or correct this field")

    def _of_kind(self, kind: type) -> Any:
        if type(self.value) is not kind:
            raise self.wrong(f"it must be {_KINDS[kind]}, not {_KINDS[type(self.value)]}")
        return self.value

    def keys(self, required: Collection[str], optional: Collection[str] = ()) -> None:
        """The value is an object with all of the required fields and none beyond the optional ones."""
        given = self._of_kind(dict)
        for name in required:
            if name not in given:
                raise self.wrong(f"the field {name!r} is missing")
        for name in given:
            if name not in required and name not in optional:
                raise self.wrong(f"there is no field {name!r}")

    def __getitem__(self, name: str) -> Field:
        return Field(self.origin, f"{self.path}.{name}" if self.path else name, self._of_kind(dict)[name])

    def items(self) -> Iterator[tuple[str, Field]]:
        return ((name, self[name]) for name in self._of_kind(dict))

    def list(self) -> Iterator[Field]:
        return (Field(self.origin, f"{self.path}[{i}]", item) for i, item in enumerate(self._of_kind(list)))

    def string(self) -> str:
        return str(self._of_kind(str))

    def truth(self) -> bool:
        return bool(self._of_kind(bool))

    def count(self) -> int:
        """A whole number that is not negative."""
        found = int(self._of_kind(int))
        if found < 0:
            raise self.wrong(f"it is {found}, and must not be negative")
        return found

    def number(self) -> float:
        """A number that is not negative."""
        found = float(self._of_kind(int if type(self.value) is int else float))
        if not 0 <= found < math.inf:
            raise self.wrong(f"it is {found}, and must be a number that is not negative")
        return found

    def counts(self) -> tuple[int, ...]:
        """A list of whole numbers that are not negative."""
        given = self._of_kind(list)
        if not all(type(item) is int and item >= 0 for item in given):
            tuple(item.count() for item in self.list())  # raises at the first one that is none
        return tuple(given)

    def object(self) -> dict[str, Any]:
        return dict(self._of_kind(dict))
