"""Bring the factorisations of one axis together: 12 x 64 beside 24 x 32 become 12 x 2 x 32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.atoms import Atoms, Factor
from onnxprune.coupling.classes import Classes
from onnxprune.coupling.refine import common_refinement, spans

Pairs = list[tuple[np.ndarray, np.ndarray]]


def nest_factors(atoms: Atoms, classes: Classes, factors: Sequence[Factor]) -> list[Factor]:
    """Factor records of which no two have the same flat axis, unless they do not nest.

    Parts that the common refinement splits become products themselves; those that it does not split are joined. What a
    record says of some of its rows that are another record's flat axis (a half of a concatenation) is nested with that.
    """
    nested, given_up, known = list(factors), set[bytes](), dict[tuple[int, int, int], Factor]()
    while True:
        nested = _nest_equal(atoms, classes, nested, given_up)
        rows = _records_of_rows(classes, nested, known)
        if not rows:
            return nested
        nested += rows


def _nest_equal(atoms: Atoms, classes: Classes, factors: list[Factor], given_up: set[bytes]) -> list[Factor]:
    while True:
        by_flat: dict[bytes, list[Factor]] = {}
        for factor in factors:
            label = classes.label[factor.flat]
            if not classes.frozen[label].all():
                by_flat.setdefault(label.tobytes(), []).append(factor)
        crowded = {flat: several for flat, several in by_flat.items() if len(several) > 1 and flat not in given_up}
        if not crowded:
            return factors
        dropped: set[int] = set()
        same: Pairs = []
        for flat, several in crowded.items():
            sizes = common_refinement([f.shape for f in several])
            if sizes is None:
                given_up.add(flat)
                continue
            dropped.update(id(f) for f in several)
            parts = [atoms.fresh(n) for n in sizes]
            factors.append(Factor(several[0].flat, sizes, tuple(parts), several[0].node))
            for factor in several:
                factors += _split(factor, sizes, parts, same)
        factors = [f for f in factors if id(f) not in dropped]
        classes.add(atoms.count - len(classes.label))
        if same:
            classes.join(*(classes.label[np.concatenate(side)] for side in zip(*same, strict=True)))


def _split(factor: Factor, sizes: Sequence[int], parts: Sequence[np.ndarray], same: Pairs) -> list[Factor]:
    """Each part of `factor` as the product of the refined parts that it spans; the same as the one, if it is one."""
    found = []
    for (start, end), part in zip(spans(factor.shape, sizes), factor.parts, strict=True):
        if end - start == 1:
            same.append((part, parts[start]))
        else:
            found.append(Factor(part, tuple(sizes[start:end]), tuple(parts[start:end]), factor.node))
    return found


def _records_of_rows(
    classes: Classes, factors: Sequence[Factor], known: dict[tuple[int, int, int], Factor]
) -> list[Factor]:  # fmt: skip
    """For each record whose flat axis is a run of whole rows of a larger one's, what the larger says of them.

    `known` has the runs (larger record, start, length) that were found before, and is added to.
    """
    loose = [f for f in factors if sum(not classes.is_frozen(part) for part in f.parts) > 1]
    owner, place = np.full(len(classes), -1, np.int64), np.zeros(len(classes), np.int64)
    found = []
    for number, factor in sorted(enumerate(loose), key=lambda item: -len(item[1].flat)):
        label = classes.label[factor.flat]
        whole, start = loose[owner[label[0]]], int(place[label[0]])
        inner = len(whole.flat) // whole.shape[0]
        first, count = start // inner, len(label) // inner
        if (
            owner[label[0]] >= 0
            and 1 < count < whole.shape[0]
            and start % inner == len(label) % inner == 0
            and np.array_equal(classes.label[whole.flat[start : start + len(label)]], label)
            and (id(whole), start, len(label)) not in known
        ):
            known[id(whole), start, len(label)] = whole
            rows = (whole.parts[0][first : first + count], *whole.parts[1:])
            found.append(Factor(factor.flat, (count, *whole.shape[1:]), rows, whole.node))
        new = np.flatnonzero(owner[label] < 0)
        owner[label[new]], place[label[new]] = number, new
    return found
