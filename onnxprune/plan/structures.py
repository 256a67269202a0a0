"""Which groups are built alike: repeated blocks of a network, whose units can be compared as they are."""

from __future__ import annotations

from collections.abc import Hashable

from onnxprune.coupling.coupling import Coupling

_KERNEL_FROM = 2  # a convolution's weight has its taps from this axis on


def structures(coupling: Coupling) -> list[Hashable]:
    """Per group what it is built of: equal for groups that differ in nothing but their widths.

    Its kind, whether it is exact, and for each axis of a stored tensor that its units touch the operators that read
    the tensor, at which input, and the taps of a kernel. Fang et al., "Isomorphic Pruning for Vision Models", ECCV
    2024, arXiv:2407.04616, compare sub-structures of one topology only, since magnitudes of others differ by nature.
    """
    stored = set(coupling.stored_slots)
    found: list[Hashable] = []
    for group, units in zip(coupling.groups, coupling.units.groups, strict=True):
        parts = []
        for index in units.slots.tolist():
            if index not in stored:
                continue
            slot = coupling.atoms.slots[index]
            value, node, position = slot.key
            uses = [(coupling.view.nodes[node], position)] if node >= 0 else coupling.view.consumers.get(value, [])
            readers = tuple(sorted((n.domain, n.op, at) for n, at in uses))
            taps = tuple(coupling.shapes.shape[value][_KERNEL_FROM:])
            parts.append((slot.axis, readers, taps if slot.axis < _KERNEL_FROM else ()))
        found.append((group.kind, group.exact, tuple(sorted(parts))))
    return found
