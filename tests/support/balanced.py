"""Balanced choice under test: which members are where, and that changing places changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.coupling.coupling import Coupling
from onnxprune.coupling.orders import Orders
from onnxprune.edit import edit, rearrange
from tests.support.oracle import NOT_BLIND, TOLERANCE, distance, random_feeds, random_kept, run


def members(coupling: Coupling) -> dict[str, dict[str, list[list[list[int]]]]]:
    """Per balanced group, per stored axis ("w:0"): for each block the indices of each of its members.

    An axis that has the members alone has one entry, under "w:1 by w:0".
    """
    found = {}
    for index, item in coupling.balance.balanced.items():
        axes = {}
        for slot, placing in item.placings.items():
            by = f" by {_name(coupling, placing.by[0])}" if placing.by is not None else ""
            blocks: list[list[list[int]]] = [[[] for _ in range(item.members)] for _ in range(item.blocks)]
            for table, of in placing.tables:
                for cell, block in zip(table.tolist(), of.tolist(), strict=True):
                    for member, indices in enumerate(cell):
                        blocks[block][member] += indices
            axes[_name(coupling, slot) + by] = [[sorted(m) for m in block] for block in blocks if any(block)]
        found[coupling.groups[index].name] = axes
    return found


def _name(coupling: Coupling, slot: int) -> str:
    return f"{coupling.atoms.slots[slot].tensor}:{coupling.atoms.slots[slot].axis}"


def assert_changes_places(source: onnx.ModelProto, *, seeds: Iterable[int] = range(3)) -> Coupling:
    """Members of all balanced groups change places at random: the model computes the same.

    Pruned after that, it is equal to the masked model, and to another than without a change of places.
    """
    coupling = analyse(source)
    balanced = coupling.balance.balanced
    assert balanced, f"nothing is balanced: {coupling.balance.reasons}"
    for seed in seeds:
        rng, fed = np.random.default_rng(seed), random_feeds(coupling, seed)
        choices = {
            i: rng.permuted(np.tile(np.arange(b.members), (b.blocks, 1)), axis=1) for i, b in balanced.items()
        }  # fmt: skip
        orders = Orders(coupling, choices)
        dense = run(coupling.view.model, fed)
        assert distance(run(rearrange(coupling, orders), fed), dense) <= TOLERANCE
        kept = {i: k for i, k in random_kept(coupling, rng, exact_only=False).items() if i in balanced}
        removed = coupling.removed_classes(kept)
        pruned = run(edit(coupling, removed, orders).model, fed)
        if all(coupling.groups[i].exact for i in kept):
            masked = run(mask_classes(coupling, removed, orders), fed)
            assert distance(pruned, masked) <= TOLERANCE
            assert distance(masked, dense) >= NOT_BLIND
    return coupling
