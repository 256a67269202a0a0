"""Channel shuffle: reshapes and a transpose that permute the indices of an axis and leave the tensor's shape.

ShuffleNet's Reshape [N, g, c, H, W], Transpose, Reshape [N, C, H, W] is the best known (https://arxiv.org/abs/1707.01083).
Seen as two factors of C, nothing could be removed but whole rows of g or c; as a permutation any channel can go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView
from onnxprune.coupling.patterns import Claim, Surroundings, pattern
from onnxprune.coupling.regrouping import Regrouping
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.shapes import Shapes
from onnxprune.graph.view import Node

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_LONGEST = 8  # nodes; exporters spell a shuffle with three to five


@pattern(*RESHAPES)
def shuffle(first: Node, graph: Surroundings) -> Claim | None:
    """The shortest chain from `first` on whose result has x's axes, at least one of them in another order."""
    source, shapes = first.inputs[0], graph.shapes
    shape = shapes.shape.get(source)
    if shape is None or 0 in shape or source in graph.view.constants or source in shapes.value:
        return None
    chain, regrouping = [first], Regrouping(shape)
    while _follow(chain[-1], regrouping, shapes):
        origin = regrouping.origin() if chain[-1].op in RESHAPES else None
        if origin is not None and any(
            regrouping.axes[now] != regrouping.source[then] for now, then in enumerate(origin)
        ):
            orders = [regrouping.order(now, then) for now, then in enumerate(origin)]
            return _claim(tuple(chain), origin, orders)
        following = graph.sole_reader(chain[-1].outputs[0])
        if following is None or len(chain) == _LONGEST or following.inputs[0] != chain[-1].outputs[0]:
            return None
        chain.append(following)
    return None


def _follow(node: Node, regrouping: Regrouping, shapes: Shapes) -> bool:
    """Do what `node` does; False where it is no reshape or transpose, or one that cannot be followed."""
    shape = shapes.shape.get(node.outputs[0])
    if shape is None or node.domain or any(name and name not in shapes.shape for name in node.inputs):
        return False
    if node.op == "Transpose":
        regrouping.transpose(node.attrs.get("perm") or range(len(shape) - 1, -1, -1))
        return True
    return node.op in RESHAPES and regrouping.reshape(shape)


def _claim(nodes: tuple[Node, ...], origin: Sequence[int], orders: Sequence[np.ndarray]) -> Claim:
    """y's axis `now` is x's axis `origin[now]`, its indices in the order `orders[now]`."""

    def link(views: Sequence[NodeView], link: Link) -> None:
        x, y = views[0].x, views[-1].y
        for now, (then, order) in enumerate(zip(origin, orders, strict=True)):
            whole = np.array_equal(order, np.arange(x.shape[then]))
            link.same(y[now], x[then] if whole else x[then][order])

    def literals(views: Sequence[NodeView], place: int, edit: Rewrite) -> None:
        """Where anything goes, the last node becomes a Gather from x, and those before it fall away."""
        x, y = views[0].x, views[-1].y
        if not edit.changed(x):
            return
        if place < len(views) - 1:
            for position in range(1, len(views[place].inputs)):
                if (current := edit.current(position)) is not None:
                    edit.want(position, current)  # as it is: nobody will read it
            return
        name = x.name
        steps: list[tuple[str, list[str | np.ndarray], dict[str, Any]]] = []
        for now, (then, order) in enumerate(zip(origin, orders, strict=True)):
            places = np.searchsorted(edit.kept(x, then), order[edit.kept(y, now)])
            if not np.array_equal(places, np.arange(len(places))):
                steps.append(("Gather", [places], {"axis": then}))
        if list(origin) != sorted(origin):
            steps.append(("Transpose", [], {"perm": list(origin)}))
        for op, more, attrs in steps[:-1]:  # gathering all of an axis in another order leaves the shape
            name = edit.insert(op, [name, *more], edit.shape(x), **attrs)
        op, more, attrs = steps[-1] if steps else ("Identity", [], {})
        edit.replace(op, [name, *more], **attrs)

    return Claim(nodes, link, literals, exchangeable=True)
