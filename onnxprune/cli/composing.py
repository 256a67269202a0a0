"""Commands are composed from argument groups: dataclasses whose fields are options.

    @dataclass(frozen=True)
    class Printing:
        quiet: Annotated[bool, typer.Option("-q")] = False

    def doctor(printing: Printing) -> None: ...

`composed(doctor)` is what Typer is given: a function with the option `quiet` instead of the parameter `printing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def composed(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with each parameter that is an argument group replaced by the group's fields.

    The fields of all groups, and the other parameters, must differ in name.
    """
    hints = get_type_hints(function, include_extras=True)
    expanded: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            expanded.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        types = get_type_hints(kind, include_extras=True)
        groups[name] = kind, [field.name for field in fields(kind)]
        for field in fields(kind):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            expanded.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]
                )
            )

    def call(**given: Any) -> None:
        for name, (kind, names) in groups.items():
            given[name] = kind(**{field: given.pop(field) for field in names})
        function(**given)

    call.__doc__ = function.__doc__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    return call
