"""Calls of one model-local function: what its body says of sizes must be true of every call.

A function is one body for all its calls. Most of it says nothing of sizes, and what its calls are given (weights) is
theirs. But where a node of the body carries sizes (a Reshape's target, a Split's parts, a Shape that is computed
with), they can only change for all calls at once: there the same indices go in each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnxprune.coupling.atoms import Atoms, Link, Links, Operand
from onnxprune.coupling.coupling import Site

HELP = "--specialise-functions gives each call a function of its own"
_SIZES = frozenset({"Shape", "Size"})
_GROUPED = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})


def tie_calls(atoms: Atoms, sites: Iterable[Site]) -> Iterator[Links]:
    """Links between the calls of each node that carries sizes and runs for several calls of its function."""
    runs: dict[int, list[Site]] = {}
    for site in sites:
        if site.node.node.scope.in_function:
            runs.setdefault(id(site.node.node.proto), []).append(site)
    for same in runs.values():
        if len(same) > 1 and any(_carries_sizes(site) for site in same):
            raw = same[0].node.node
            link = Link(atoms, raw.index, raw.title, raw.op)
            for other in same[1:]:
                _tie(same[0], other, link)
            yield link.recorded


def _carries_sizes(site: Site) -> bool:
    node = site.node
    if node.op in _SIZES:
        return True
    if site.rule is None or site.rule.rewrite is None or node.op == "Constant":
        return False
    return node.op not in _GROUPED or node.attr("group", 1) > 1


def _tie(one: Site, two: Site, link: Link) -> None:
    ones, twos = ((*site.node.inputs, *site.node.outputs) for site in (one, two))
    for a, b in zip(ones, twos, strict=False):
        if a is None or b is None or a.rank != b.rank:
            _freeze(a, link)
            _freeze(b, link)
            continue
        for axis in range(a.rank):
            if a.shape[axis] == b.shape[axis]:
                if a.shape[axis] > 1 and a.key != b.key:
                    link.same(a[axis], b[axis])
            else:
                _freeze(a, link, axis)
                _freeze(b, link, axis)


def _freeze(x: Operand | None, link: Link, *axes: int) -> None:
    if x is not None:
        for axis in axes or range(x.rank):
            if x.shape[axis] > 1:
                link.freeze(x[axis], "its function carries sizes, and is called with others elsewhere", HELP)
