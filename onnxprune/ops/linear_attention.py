"""Linear attention (ai.onnx, com.microsoft): a state of keys by values is updated step by step and read by queries."""

from __future__ import annotations

from onnxprune.coupling.atoms import Decline, Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule, same_rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.attention import kept_heads, link_heads
from onnxprune.ops.ms_attention import STEPS, pin_scale, stated_heads

_STATE, _DECAY, _BETA = 3, 4, 5  # input positions
_WINDOW = "states of several steps"


@rule("LinearAttention", since=27)
def linear_attention(node: NodeView, link: Link) -> None:
    """Q [N, T, H * D], K [N, T, G * D], V [N, T, G * E] -> Y [N, T, max(H, G) * E], state [N, G, D, E].

    H = `q_num_heads` and G = `kv_num_heads` share each other's heads; decay is [N, T, G] or [N, T, G * D], beta
    [N, T, G] or [N, T, 1]. D is summed over: zero in queries and keys, it reaches neither the state nor the output.
    """
    q, k, v, y = node.x, node.input(1), node.input(2), node.y
    queries, shared, size = _sizes(node)
    each, group = link.fresh(queries), link.fresh(shared)
    dims, values = link.fresh(size), link.fresh(v.shape[2] // shared)
    more, fewer = (each, group) if queries >= shared else (group, each)
    link.factor(more, (len(fewer), len(more) // len(fewer)), (fewer, link.fresh(len(more) // len(fewer))))
    for x, heads, inside in ((q, each, dims), (k, group, dims), (v, group, values), (y, more, values)):
        link_heads(x, heads, inside, link)
        link.same(x[0], q[0])
    link.contract(q, 2)
    link.contract(k, 2)
    for state in (node.optional(_STATE), node.output(1)):
        if state is not None:
            if state.rank == 5:
                link.freeze(state[0], _WINDOW)
            for axis, ids in ((-4, q[0]), (-3, group), (-2, dims), (-1, values)):
                link.same(state[axis], ids)
    for position in (_DECAY, _BETA):
        if (gate := node.optional(position)) is not None:
            link.same(gate[0], q[0])
            link.freeze(gate[1], STEPS)
            if gate.shape[2] == shared * size and position == _DECAY and size > 1:
                link.factor(gate[2], (shared, size), (group, dims))
            elif gate.shape[2] > 1:
                link.same(gate[2], group)
    for ids, word in ((each, "heads"), (group, "heads"), (dims, "head_dims"), (values, "head_dims")):
        link.tag(ids, word)


def _sizes(node: NodeView) -> tuple[int, int, int]:
    """Heads of queries, heads of keys and values, head size."""
    queries, shared = stated_heads(node, "q_num_heads"), stated_heads(node, "kv_num_heads")
    size, rest = divmod(node.input(1).shape[2], shared)
    if rest or max(queries, shared) % min(queries, shared) or node.x.shape[2] != queries * size:
        raise Decline(f"{queries} heads of queries and {shared} of keys and values do not share {node.x.shape[2]} dims")
    return queries, shared, size


@linear_attention.literals
def _(node: NodeView, edit: Rewrite) -> None:
    queries, shared, size = _sizes(node)
    left = kept_heads(node.x, queries, edit)
    edit.attr("q_num_heads", left)
    edit.attr("kv_num_heads", kept_heads(node.input(1), shared, edit))
    pin_scale(node, size, edit.shape(node.x)[2] // left, edit)


@linear_attention.macs
def _(node: NodeView) -> list[Work]:
    """Every step updates the state and reads it."""
    size = _sizes(node)[2]
    return [work(every(node.input(2)), factor=size), work(every(node.y), factor=size)]


same_rule(linear_attention, "LinearAttention", domain=MICROSOFT)
