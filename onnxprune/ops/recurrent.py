"""Recurrent operators: LSTM, GRU and RNN of every opset, one direction or two, time first or batch first."""

from __future__ import annotations

from onnxprune.coupling.atoms import Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
PEEPHOLES = 3  # of the input, output and forget gate
_B, _LENGTHS, STATE_H, STATE_C, _P = 3, 4, 5, 6, 7  # positions of the optional inputs


@rule("LSTM", "GRU", "RNN")
def recurrent(node: NodeView, link: Link) -> None:
    """X [S, N, I], W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H], P [D, 3*H] -> Y [S, D, N, H], Y_h and Y_c [D, N, H].

    With `layout` 1 the batch N comes first everywhere. A hidden unit is a row of every gate, of both directions at
    once. Other hidden units see it through R alone: zero in R's last axis, it is gone from the recurrence.
    """
    x, w, r = node.x, node.input(1), node.input(2)
    gates, hidden = GATES[node.op], r[2]
    link.contract(x, 2, w[2])
    link.contract(r, 2)
    rows = ((w, gates), (r, gates), (node.optional(_B), 2 * gates), (node.optional(_P), PEEPHOLES))
    for weights, count in rows:
        if weights is not None:
            freeze_directions(weights, 0, link)
            link_gates(weights, 1, count, hidden, link)
    link_states(node, hidden, link)
    _link_directions(node, link)


def _link_directions(node: NodeView, link: Link) -> None:
    """The directions of all operands are the same ones: none can go, yet hidden units differ between them."""
    batch_first = bool(node.attr("layout", 0))
    weights = [node.input(1), node.input(2), node.optional(_B), node.optional(_P)]
    states = [node.optional(STATE_H), node.optional(STATE_C), *node.outputs[1:]]
    places = [*((x, 0) for x in weights), *((x, int(batch_first)) for x in states)]
    places.append((node.output(0), 2 if batch_first else 1))
    for x, axis in places[1:]:
        if x is not None and x.shape[axis] > 1:
            link.same(x[axis], node.input(1)[0])


def link_states(node: NodeView, hidden: Ids, link: Link) -> None:
    """What a recurrent operator reads and writes beside its weights: X's steps and batch, lengths, states, outputs."""
    x, batch_first = node.x, bool(node.attr("layout", 0))
    time, batch = (1, 0) if batch_first else (0, 1)
    link.freeze(x[time], "time steps stay")
    if (lengths := node.optional(_LENGTHS)) is not None:
        link.same(lengths[0], x[batch])
    for state in (node.optional(STATE_H), node.optional(STATE_C), *node.outputs[1:]):
        if state is not None:
            freeze_directions(state, 1 - batch, link)
            link.same(state[batch], x[batch])
            link.same(state[2], hidden)
    y = node.output(0)
    if y is not None:
        link.freeze(y[time], "time steps stay")
        freeze_directions(y, 2 if batch_first else 1, link)
        link.same(y[0 if batch_first else 2], x[batch])
        link.same(y[3], hidden)


def freeze_directions(x: Operand, axis: int, link: Link) -> None:
    """One direction or two, none can go."""
    link.freeze(x[axis], "the directions of a recurrent operator stay")


def link_gates(weights: Operand, axis: int, count: int, hidden: Ids, link: Link) -> None:
    """The axis holds `count` runs of hidden units: each unit's atoms in all of them are one."""
    gates = link.fresh(count)
    link.freeze(gates, "every gate stays", at=(weights.name, axis))
    link.factor(weights[axis], (count, len(hidden)), (gates, hidden))


@recurrent.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("hidden_size") is not None:
        edit.attr("hidden_size", edit.shape(node.input(2))[2])


@recurrent.macs
def _(node: NodeView) -> list[Work]:
    steps = every(node.x, 0, 2)
    return [work(steps, every(node.input(1))), work(steps, every(node.input(2)))]
