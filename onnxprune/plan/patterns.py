"""Which groups a user means by a glob: `*` and `?` over the names of groups, tensors, axes and nodes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import translate

from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import SettingError
from onnxprune.types import Group


class Names:
    """The names that the groups of a model answer to.

    A group is *touched* by all that removing its units changes, a layer's readers included: ignoring a layer means
    that nothing of it changes. It is *made* by the layers that put its units out, with their weights: a ratio for a
    layer is one for its own units, and not for those that it reads.
    """

    def __init__(self, coupling: Coupling) -> None:
        self._view = coupling.view
        self._groups = coupling.groups

    def touched(self, pattern: str, option: str, *, frozen_is_fine: bool = False) -> set[int]:
        """Indices of the groups that are touched by what `pattern` (a glob, or a name to the letter) names.

        Raises SettingError, which names `option`, where it names nothing in the model, and where it names only what
        is in no group, unless `frozen_is_fine`.
        """
        found = self._matching(pattern, [_touching(group) for group in self._groups])
        if not found and not (self._is_known(pattern, option) and frozen_is_fine):
            raise SettingError(
                f"{option}: nothing of what {pattern!r} names can be removed, it is in no group",
                remedy="`onnxprune inspect` says why it must stay",
            )
        return found

    def made(self, pattern: str, option: str) -> set[int]:
        """Indices of the groups that are made by what `pattern` names. Raises SettingError as `touched` does."""
        found = self._matching(pattern, [self._making(group) for group in self._groups])
        if not found and self._is_known(pattern, option):
            raise SettingError(
                f"{option}: nothing that {pattern!r} puts out can be removed, it is in no group",
                remedy="`onnxprune inspect` says why it must stay",
            )
        return found

    def _making(self, group: Group) -> set[str]:
        values = {axis.tensor for axis in group.axes} - self._view.constants.keys()
        makers = [self._view.producer[value] for value in values if value in self._view.producer]
        weights = {axis.tensor for axis in group.axes} & {name for node in makers for name in node.inputs}
        return {group.name, *(str(axis) for axis in group.axes), *values, *(n.title for n in makers), *weights}

    def _matching(self, pattern: str, names: Iterable[set[str]]) -> set[int]:
        matches = re.compile(translate(pattern)).match
        return {i for i, own in enumerate(names) if pattern in own or any(matches(name) for name in own)}

    def _is_known(self, pattern: str, option: str) -> bool:
        """True, or SettingError with the nearest names where the model has nothing called so."""
        names = {node.title for node in self._view.nodes} | self._view.constants.keys() | self._view.producer.keys()
        names.update(self._view.inputs)
        if self._matching(pattern, [names]):
            return True
        known = names.union(*(_touching(group) for group in self._groups))
        near = difflib.get_close_matches(pattern.strip("*"), sorted(known), n=3)
        raise SettingError(
            f"{option}: no group, tensor or node is called {pattern!r}",
            remedy=f"the nearest: {', '.join(near)}" if near else "`onnxprune inspect` lists the groups",
        )


def _touching(group: Group) -> set[str]:
    tensors = {axis.tensor for axis in group.axes}
    return {group.name, *tensors, *(str(axis) for axis in group.axes), *group.nodes}
