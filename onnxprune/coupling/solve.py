"""Solve what the rules recorded: classes of atoms, what is frozen, which classes are roots and what goes with them.

1. Connected components over `same`.
2. Several factorisations of one axis are brought to their common refinement (nest.py).
3. Bundles from `factor`: children go if and only if one of their parents does (bundles.py).
4. The proof that any choice of roots is consistent: in every factor record a child's roots are its parents' roots
   together. What violates it is joined where nothing else is possible, else frozen with the node named; then step 3
   again.
5. Roots that touch the same places form a bunch, from which a planner leaves at least one. Where such choices from
   different bunches could leave an axis empty between them, one index of it is frozen (cover.py); then step 3 again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.atoms import Atoms, Links
from onnxprune.coupling.bundles import Bundles
from onnxprune.coupling.classes import NO_REASON as NO_REASON
from onnxprune.coupling.classes import Classes
from onnxprune.coupling.cover import bunches, uncovered
from onnxprune.coupling.nest import nest_factors
from onnxprune.coupling.places import Places, SlotGroups
from onnxprune.types import Refusal


@dataclass
class Solution:
    """`label[atom]` is the atom's class. Per class: `frozen`, `reason` (index of the first reason, or NO_REASON), and
    `bunch` (the number of the bunch that a root belongs to, -1 for all else).

    `parent` and `child` are the unfrozen bundle edges between classes, `root` and `below` the pairs (root, class that
    goes with it, itself included), both distinct and sorted; `conflicts` the nodes whose factorisations could not
    be reconciled.
    """

    label: np.ndarray
    frozen: np.ndarray
    reason: np.ndarray
    parent: np.ndarray
    child: np.ndarray
    root: np.ndarray
    below: np.ndarray
    bunch: np.ndarray
    places: Places
    conflicts: list[int]

    @property
    def classes(self) -> int:
        return len(self.frozen)

    def removed_classes(self, roots: np.ndarray) -> np.ndarray:
        """Classes (bool) that go when the classes marked in `roots` (bool) go."""
        gone = roots.copy()
        while True:
            before = int(gone.sum())
            gone[self.child[gone[self.parent]]] = True
            if int(gone.sum()) == before:
                return gone


def solve(atoms: Atoms, links: Links) -> Solution:
    """Solve the recorded links. Deterministic. Adds the atoms of refined factors, and reasons, to `atoms`."""
    slots = SlotGroups(atoms, links)
    classes = _classes_of(atoms, links, slots)
    _freeze_given(classes, links)
    bundles = Bundles(classes, nest_factors(atoms, classes, links.factors))
    classes.compact()
    conflicts: dict[int, int] = {}  # node -> reason
    while True:
        bundles.settle()
        parent, child = bundles.edges()
        root, below = bundles.closure(parent, child)
        bad = bundles.conflicts(root, below)
        if len(bad):
            a, b = bundles.forced_joins(bad)
            if len(a):
                classes.join(a, b)
            else:
                _freeze_conflicts(atoms, bundles, bad, conflicts)
            continue
        places = Places(atoms, slots, classes)
        root, below = _with_single_roots(places, root, below, len(classes))
        bunch = bunches(places, root, below, len(classes))
        exposed = uncovered(places, root, below, bunch)
        if not exposed:
            return Solution(
                classes.label, classes.frozen, classes.reason, parent, child, root, below, bunch, places,
                list(conflicts),
            )  # fmt: skip
        _freeze_exposed(atoms, bundles, places, *exposed[0])


def _classes_of(atoms: Atoms, links: Links, slots: SlotGroups) -> Classes:
    """Most links are of entire slots; joining those first leaves few atoms for the general components."""
    classes = Classes(*slots.labels(atoms))
    if links.edges:
        classes.join(*(classes.label[np.concatenate(side)] for side in zip(*links.edges, strict=True)))
    return classes


def _with_single_roots(
    places: Places, root: np.ndarray, below: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The closure's pairs, with those of the roots that take nothing along."""
    single = np.zeros(classes, bool)
    single[places.cls] = True
    single[below] = False
    alone = np.flatnonzero(single)
    root, below = np.concatenate([root, alone]), np.concatenate([below, alone])
    order = np.argsort(root, kind="stable")
    return root[order], below[order]


def _freeze_given(classes: Classes, links: Links) -> None:
    if links.frozen:
        sizes = [len(ids) for ids, _ in links.frozen]
        why = np.repeat(np.asarray([reason for _, reason in links.frozen], np.int64), sizes)
        classes.freeze(classes.label[np.concatenate([ids for ids, _ in links.frozen])], why)


def _freeze_conflicts(atoms: Atoms, bundles: Bundles, bad: np.ndarray, known: dict[int, int]) -> None:
    """Freeze what a violated row links, naming the first node that factors the axis differently."""
    classes = bundles.classes
    for node in np.unique(bundles.node[bad]).tolist():
        if node not in known:
            known[node] = atoms.reason(atoms.conflict(node))
        mine = np.zeros(len(bundles.child), bool)
        mine[bad] = bundles.node[bad] == node
        ids = np.concatenate([bundles.child[mine], bundles.parent[mine[bundles.row]]])
        classes.freeze(classes.label[ids], known[node])


def _freeze_exposed(atoms: Atoms, bundles: Bundles, places: Places, place: int, cls: int) -> None:
    """Freeze a class so that its place keeps an index, naming the node that factors it."""
    slots, classes = places.slots, bundles.classes
    slot = atoms.slots[slots.first[place]] if place < len(slots.first) else None
    tensor, axis = (slot.tensor, slot.axis) if slot is not None else ("", -1)
    row = int(np.flatnonzero(classes.label[bundles.child] == cls)[0])
    title, op = atoms.titles.get(int(bundles.node[row]), ("", ""))
    why = "other choices together could leave the axis empty, so one index stays"
    classes.freeze(np.asarray([cls]), atoms.reason(Refusal(title, op, tensor, axis, why)))
