"""Random chains of indexing operators on one axis: any choice of channels equals the masked dense model."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.ops.slice import bounds_for, select
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import between_convs

FAR = 2**63 - 1


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


class Chain:
    """Nodes on a tensor [2, channels, 4, 5], one after the other; `source[c]` is the channel of the first it holds."""

    def __init__(self, width: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.width, self.value, self.source = width, "h", np.arange(width)

    def add(self, op: str, *constants: np.ndarray, **attrs: object) -> None:
        count = len(self.nodes)
        names = [f"c{count}_{k}" for k in range(len(constants))]
        self.weights.update(zip(names, constants, strict=True))
        self.nodes.append(make_node(op, [self.value, *names], [f"v{count}"], **attrs))
        self.value = f"v{count}"

    def slice(self, start: int, end: int, step: int) -> None:
        self.source = self.source[slice(start, end, step)]
        self.add("Slice", ints(start), ints(end), ints(1), ints(step))

    def gather(self, indices: list[int]) -> None:
        self.source = self.source[indices]
        self.add("Gather", ints(*indices), axis=1)

    def shuffle(self, groups: int) -> None:
        width = len(self.source)
        self.source = self.source.reshape(groups, -1).T.reshape(-1)
        self.add("Reshape", ints(2, groups, width // groups, 4, 5))
        self.add("Transpose", perm=[0, 2, 1, 3, 4])
        self.add("Reshape", ints(2, width, 4, 5))

    def swap(self, at: int) -> None:
        """Split in two, concatenate the other way round, by hand."""
        self.source = np.concatenate([self.source[at:], self.source[:at]])
        left, right = f"{self.value}_left", f"{self.value}_right"
        count = len(self.nodes)
        self.weights[f"sizes{count}"] = ints(at, len(self.source) - at)
        self.nodes += [
            make_node("Split", [self.value, f"sizes{count}"], [left, right], axis=1),
            make_node("Concat", [right, left], [f"v{count + 1}"], axis=1),
        ]
        self.value = f"v{count + 1}"


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    width = draw(st.integers(4, 12))
    chain = Chain(width)
    for _ in range(draw(st.integers(1, 3))):
        now = len(chain.source)
        kind = draw(st.sampled_from(["slice", "gather", "shuffle", "swap"]))
        if kind == "slice":
            start, end = (
                draw(st.integers(-now - 2, now + 2)),
                draw(st.sampled_from([FAR, -FAR, 0, 1, -1, now, now - 1])),
            )
            step = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
            if len(chain.source[slice(start, end, step)]) > 1:
                chain.slice(start, end, step)
        elif kind == "gather":
            chain.gather(draw(st.lists(st.integers(-now, now - 1), min_size=2, max_size=now + 2)))
        elif kind == "shuffle":
            divisors = [g for g in range(2, now) if now % g == 0]
            if divisors:
                chain.shuffle(draw(st.sampled_from(divisors)))
        else:
            chain.swap(draw(st.integers(1, now - 1)))
    assume(chain.nodes)
    return chain


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(chains())
def test_indexing_is_exact(chain: Chain) -> None:
    chain.nodes.append(make_node("Identity", [chain.value], ["y"]))
    model = between_convs(chain.nodes, chain.weights, width=chain.width, reads=len(chain.source))
    coupling = analyse(model)
    found = units(coupling)
    for members in found.values():
        for unit in members:
            taken = [place for place, channel in enumerate(chain.source) if channel in unit["w1:0"]]
            assert unit.get("w2:1", []) == taken
    assume(any("w2:1" in members[0] for members in found.values()))
    assert_prunes_exactly(model, seeds=range(2))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 12), st.integers(-15, 15), st.sampled_from([-FAR, FAR, *range(-15, 16)]),
    st.sampled_from([1, 2, 3, -1, -2, -3]), st.randoms(),
)  # fmt: skip
def test_bounds_of_what_is_kept(size: int, start: int, end: int, step: int, random: object) -> None:
    """Bounds are found for every run; for strides, if what is left is evenly spaced; they select just that."""
    kept = np.asarray([i for i in range(size) if random.random() < 0.6], np.int64)
    taken = select(start, end, step, size)
    places = np.searchsorted(kept, taken[np.isin(taken, kept)])
    found = bounds_for((start, end, step), places, len(kept))
    even = len(places) < 2 or len(set(np.diff(places).tolist())) == 1
    assert (found is not None) == even
    assert even or abs(step) > 1
    if found is not None:
        assert select(*found, len(kept)).tolist() == places.tolist()
