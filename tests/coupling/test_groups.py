"""Units and groups: who owns what, in which order they are named, and the pairs that costs are added up over."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from onnxprune.coupling.groups import Units
from onnxprune.coupling.solve import solve
from tests.coupling.systems import System, systems


def grouped(system: System, stored: list[int]) -> list[tuple[int, list[int]]]:
    """Size and slots of each group, with only these slots stored in the file."""
    units = Units(system.atoms, solve(system.atoms, system.links), stored)
    return [(len(g.roots), g.slots.tolist()) for g in units.groups]


def test_what_owns_no_stored_tensor_is_no_unit() -> None:
    """An axis of Expand, say, that nothing stored has a part in."""
    system = System()
    x, y, w = system.slot(3), system.slot(3), system.slot(2)
    system.link().same(x, y)
    assert len(w) == 2
    assert grouped(system, [2]) == [(2, [2])]
    assert grouped(system, [1, 2]) == [(3, [0, 1]), (2, [2])]


def test_parents_own_what_goes_with_them() -> None:
    system = System()
    flat, a, b = system.slot(6), system.slot(2), system.slot(3)
    system.link().factor(flat, (2, 3), (a, b))
    assert grouped(system, [0]) == [(2, [0, 1]), (3, [0, 2])]
    assert grouped(system, [1]) == [(2, [0, 1])]


def test_one_axis_may_hold_several_groups() -> None:
    """Two of the five are read by a layer of their own."""
    system = System()
    x, part = system.slot(5), system.slot(2)
    system.link().same(x[3:], part)
    assert grouped(system, [0, 1]) == [(3, [0]), (2, [0, 1])]


def test_a_slot_may_hold_a_unit_more_than_once() -> None:
    system = System()
    x, twice = system.slot(2), system.slot(4)
    link = system.link()
    link.same(twice[:2], x)
    link.same(twice[2:], x)
    solution = solve(system.atoms, system.links)
    units = Units(system.atoms, solution, [0, 1])
    assert [(len(g.roots), g.slots.tolist()) for g in units.groups] == [(2, [0, 1])]
    assert sorted(zip(units.slot.tolist(), units.count.tolist(), strict=True)) == [(0, 1), (0, 1), (1, 2), (1, 2)]
    per_class = np.zeros(solution.classes)
    np.add.at(per_class, units.cls, units.count)
    assert units.unit_totals(per_class)[units.groups[0].roots].tolist() == [3, 3]


def test_marks_reach_the_roots_of_what_is_marked() -> None:
    system = System()
    flat, a, b = system.slot(6), system.slot(2), system.slot(3)
    system.link().factor(flat, (2, 3), (a, b))
    units = Units(system.atoms, solve(system.atoms, system.links), [0, 1, 2])
    marked = units.marked([flat[4:5]])  # row 1, column 1
    assert [marked[g.roots].tolist() for g in units.groups] == [[False, True], [False, True, False]]
    assert not units.marked([]).any()


@given(systems())
def test_pairs_count_every_unfrozen_atom_of_every_slot(system: System) -> None:
    solution, units = system.solve()
    expected = []
    for slot, ids in enumerate(system.array):
        label = solution.label[ids]
        cls, count = np.unique(label[~solution.frozen[label]], return_counts=True)
        expected += [(slot, c, n) for c, n in zip(cls.tolist(), count.tolist(), strict=True)]
    found = zip(units.slot.tolist(), units.cls.tolist(), units.count.tolist(), strict=True)
    assert sorted(found) == sorted(expected)


@given(systems())
def test_units_are_in_order_of_their_first_atoms(system: System) -> None:
    solution, units = system.solve()
    for group in units.groups:
        below = [units.below[units.root == root] for root in group.roots]
        first = [min(np.flatnonzero(np.isin(solution.label, b)).tolist()) for b in below]
        assert first == sorted(first)
