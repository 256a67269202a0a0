"""com.microsoft.DynamicQuantizeLSTM: an LSTM with 8-bit weights that quantises X and its state as it runs."""

from __future__ import annotations

from onnxprune.coupling.atoms import Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.quantization import contract_all
from onnxprune.ops.recurrent import (
    GATES,
    PEEPHOLES,
    STATE_C,
    STATE_H,
    freeze_directions,
    link_gates,
    link_states,
)

_GATES = GATES["LSTM"]
_B, _P = 3, 7  # positions of inputs; 8 to 11 are scale and zero point of W, then of R
_WHY = "its state is quantised by a range that takes in every hidden unit"
_ZERO_AT_ZERO = frozenset({"tanh", "relu", "affine", "leakyrelu", "scaledtanh", "elu", "softsign"})


@rule("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_quantize_lstm(node: NodeView, link: Link) -> None:
    """X [S, N, I], W [D, I, 4H], R [D, H, 4H], B [D, 8H], P [D, 3H] -> Y [S, D, N, H], Y_h and Y_c [D, N, H].

    Scales and zero points of W and R are [D] or [D, 4H]. The weights are the LSTM's, transposed. A hidden unit whose
    columns and biases are zero, and whose state starts at zero, stays at zero, and the range by which the state is
    quantised takes in zero anyway: that is what shows a removal to be exact.
    """
    x, w, r = node.x, node.input(1), node.input(2)
    hidden = r[1]
    link.same(x[2], w[1])
    contract_all(x, link)
    for weights, count in ((node.optional(_B), 2 * _GATES), (node.optional(_P), PEEPHOLES)):
        if weights is not None:
            freeze_directions(weights, 0, link)
            link_gates(weights, 1, count, hidden, link)
    exact = _rests_at_zero(node)
    for position, weights in ((8, w), (10, r)):
        freeze_directions(weights, 0, link)
        link_gates(weights, 2, _GATES, hidden, link)
        exact &= _link_decoding(node, position, weights, hidden, link)
    link_states(node, hidden, link)
    for position in (_B, STATE_H, STATE_C):
        if (operand := node.optional(position)) is not None:
            link.contract(operand, -1)
    if not exact:
        link.mix(hidden, _WHY)


def _link_decoding(node: NodeView, position: int, weights: Operand, hidden: Ids, link: Link) -> bool:
    """Link a scale and the zero point behind it; False where the oracle has no way to spell a weight of zero."""
    for parameter in (node.input(position), node.input(position + 1)):
        if parameter.rank > 1:
            freeze_directions(parameter, 0, link)
            link_gates(parameter, 1, _GATES, hidden, link)
        else:
            parameter.ignore()
    zero, value = node.input(position + 1), node.value(position + 1)
    if value is not None and not value.any():
        link.contract(weights, 2)
    elif weights.shape[0] == 1:  # one direction: [1] and [1, 4H] broadcast against the weights [1, ., 4H]
        link.contract(weights, 2, zero=zero)
    else:
        return False
    return True


def _rests_at_zero(node: NodeView) -> bool:
    """Whether a cell without input stays at zero: its candidate and its output are zero at zero (g and h)."""
    given = node.attr("activations") or ["Sigmoid", "Tanh", "Tanh"]
    names = [name.lower() for name in given]
    offsets = node.attr("activation_beta") or []
    return all(name in _ZERO_AT_ZERO for f in range(0, len(names), 3) for name in names[f + 1 : f + 3]) and not any(
        offsets
    )


@dynamic_quantize_lstm.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("hidden_size") is not None:
        edit.attr("hidden_size", edit.shape(node.input(2))[1])


@dynamic_quantize_lstm.macs
def _(node: NodeView) -> list[Work]:
    steps = every(node.x, 0, 2)
    return [work(steps, every(node.input(1))), work(steps, every(node.input(2)))]
