"""Torch forms of operators: one small function each, by (domain, operator, opset). Knows no operator itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

MICROSOFT = "com.microsoft"
ENTRY_POINT = "onnxprune.torch_ops"

Function = Callable[..., Any]


@dataclass(frozen=True)
class Form:
    """What an operator is in torch, from opset `since` on.

    `function(step, *inputs)` gives one value, or a tuple with a value per output; an input that is left out is None.
    `settings` are positions of inputs that are read as numbers rather than computed with (sizes, axes, pads, scales
    of a quantiser): what is stored there is no weight, and stays on the CPU. `bodies`: it runs graphs of its own.
    """

    op: str
    domain: str
    since: int
    function: Function
    settings: frozenset[int] = frozenset()
    bodies: bool = False


class Registry:
    """Forms by (domain, operator); the newest whose `since` the model's opset reaches applies."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, str], list[Form]] = {}

    def add(self, form: Form) -> None:
        known = self._forms.setdefault((form.domain, form.op), [])
        if any(old.since == form.since for old in known):
            raise ValueError(f"{form.domain or 'ai.onnx'}.{form.op} since opset {form.since} has a torch form already")
        known.append(form)
        known.sort(key=lambda f: -f.since)

    def find(self, domain: str, op: str, opset: int) -> Form | None:
        """The form of an operator; an `opset` of 0, a domain that the model does not import, counts as the first."""
        for form in self._forms.get((domain, op), ()):
            if form.since <= max(opset, 1):
                return form
        return None

    def __iter__(self) -> Iterator[Form]:
        for _, forms in sorted(self._forms.items()):
            yield from forms


FORMS = Registry()


def op(
    *names: str,
    since: int = 1,
    domain: str = "",
    settings: tuple[int, ...] = (),
    bodies: bool = False,
    registry: Registry = FORMS,
) -> Callable[[Function], Function]:
    """Register the decorated function as the torch form of the operators `names`. Raises ValueError on a duplicate."""

    def register(function: Function) -> Function:
        for name in names:
            registry.add(Form(name, domain, since, function, frozenset(settings), bodies))
        return function

    return register


@cache
def forms() -> Registry:
    """All torch forms: our families, then those of installed packages (entry point `onnxprune.torch_ops`)."""
    from onnxprune.recover.torch_ops import FAMILIES

    for family in FAMILIES:
        import_module(f"onnxprune.recover.torch_ops.{family}")
    for entry in entry_points(group=ENTRY_POINT):
        entry.load()
    return FORMS
