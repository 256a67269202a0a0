"""What is promised of any solution, on random systems: see systems.py for the brute force."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.coupling.atoms import Ids
from tests.coupling.systems import System, removed_atoms, systems

ANY = st.one_of(systems(wild=False), systems(wild=True))
CHOICES = 4
ENUMERABLE = 11  # classes; 2048 sets of them


@given(ANY, st.randoms(use_true_random=False))
def test_any_choice_is_consistent_and_empties_nothing(system: System, rng: random.Random) -> None:
    solution, units = system.solve()
    for _ in range(CHOICES):
        roots: list[int] = []
        for group in units.groups:
            roots += rng.sample(group.roots.tolist(), rng.randint(0, len(group.roots) - 1))
        removed = removed_atoms(system, solution, roots)
        assert system.is_valid(removed)
        assert not system.empties(removed)


@given(ANY)
def test_one_unit_of_each_group_is_enough(system: System) -> None:
    """The extreme choices: all but the first, all but the last."""
    solution, units = system.solve()
    for kept in (0, -1):
        roots = [r for g in units.groups for r in np.delete(g.roots, kept).tolist()]
        removed = removed_atoms(system, solution, roots)
        assert system.is_valid(removed)
        assert not system.empties(removed)


@given(systems(wild=False))
def test_groups_do_not_overlap_and_hold_all_slots_of_their_units(system: System) -> None:
    solution, units = system.solve()
    roots = [r for g in units.groups for r in g.roots.tolist()]
    assert len(roots) == len(set(roots))
    for group in units.groups:
        for root in group.roots.tolist():
            removed = removed_atoms(system, solution, [root])
            touched = [k for k, ids in enumerate(system.array) if removed & set(ids.tolist())]
            assert touched == group.slots.tolist()


@given(systems(wild=False))
def test_nothing_that_could_go_is_lost(system: System) -> None:
    """Where no factorisations contradict each other, every valid set that empties no axis is a union of roots' sets.

    Some valid sets are given up on purpose: those of axes that are linked with themselves or cut out of a product.
    """
    every = system.every_valid_removal(ENUMERABLE)
    count = system.atoms.count  # solving adds atoms of refined factors
    solution, _ = system.solve()
    given_up = any("leave the axis empty" in r.why for r in system.atoms.reasons)
    if every is None or solution.conflicts or given_up or entangled(system):
        return
    roots = np.flatnonzero(solution.bunch >= 0).tolist()
    mine = [{a for a in removed_atoms(system, solution, [r]) if a < count} for r in roots]
    for removal in every:
        if not system.empties(removal):
            assert set().union(*(m for m in mine if m <= removal)) == removal


def entangled(system: System) -> bool:
    """Whether links join two atoms of one flat axis or part, or an atom of a flat axis and a part of its own record."""
    label = {a: k for k, members in enumerate(system.classes()) for a in members}
    for factor in system.links.factors:
        axes = [[label[i] for i in ids.tolist()] for ids in (factor.flat, *factor.parts)]
        if any(len(set(axis)) < len(axis) for axis in axes) or set(axes[0]) & set().union(*axes[1:]):
            return True
    return False


@given(systems(wild=False))
def test_only_what_must_stay_is_frozen(system: System) -> None:
    """Where nothing was given up, an index that is frozen is in no valid set at all."""
    every = system.every_valid_removal(ENUMERABLE)
    solution, _ = system.solve()
    given_up = any("leave the axis empty" in r.why for r in system.atoms.reasons)
    if every is None or solution.conflicts or given_up:
        return
    movable = set().union(*(r for r in every if not system.empties(r)))
    for ids in system.array:
        still = set(ids[solution.frozen[solution.label[ids]]].tolist())
        assert not still & movable


@given(ANY)
def test_every_frozen_atom_has_a_reason(system: System) -> None:
    solution, _ = system.solve()
    for ids in system.array:
        still: Ids = ids[solution.frozen[solution.label[ids]]]
        for why in solution.reason[solution.label[still]].tolist():
            assert system.atoms.reasons[why].why


@given(ANY, st.integers(0, 2**32))
def test_the_order_of_links_does_not_matter(system: System, seed: int) -> None:
    first, _ = system.solve()
    count = sum(len(a) for a in system.array) + 1
    shuffled = system.links
    rng = random.Random(seed)
    for records in (shuffled.wholes, shuffled.edges, shuffled.factors, shuffled.frozen):
        rng.shuffle(records)
    second, _ = system.solve()
    if first.conflicts or second.conflicts:
        return
    frozen = [s.frozen[s.label[:count]].tolist() for s in (first, second)]
    assert frozen[0] == frozen[1]
