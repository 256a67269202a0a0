"""What rules declare, and the operator table says, is what analysis of single nodes shows."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import onnx
import pytest

from onnxprune import ops
from onnxprune.coupling.registry import Rule
from tests.graph.test_quantised_shapes import CASES as QUANTISED
from tests.graph.test_quantised_shapes import model_of
from tests.support.contrib_cases import CASES as CONTRIB
from tests.support.effects import Observed, backend_nodes, float_node, observe

RULES = [(domain, op, rule) for domain, op, rule in ops.registry()]
IMAGE = [2, 4, 6, 6]
OWN = [  # backend cases have one channel, or are none of single nodes
    float_node("AveragePool", [IMAGE], kernel_shape=[2, 2]),
    float_node("Conv", [IMAGE, [6, 4, 3, 3]]),
    float_node("GlobalLpPool", [IMAGE]),
    float_node("GridSample", [IMAGE, [2, 3, 3, 2]]),
    float_node("ImageScaler", [IMAGE], opset=8, bias=[0.0] * 4),
    float_node("LpPool", [IMAGE], kernel_shape=[2, 2]),
    float_node("MaxPool", [IMAGE], kernel_shape=[2, 2]),
    float_node("MaxRoiPool", [IMAGE, [3, 5]], pooled_shape=[2, 2]),
    float_node("Multinomial", [[3, 5]], sample_size=2),
    float_node("RandomNormal", [], shape=[3, 4]),
    float_node("RandomNormalLike", [[3, 4]]),
    float_node("RandomUniform", [], shape=[3, 4]),
    float_node("RandomUniformLike", [[3, 4]]),
    float_node("Upsample", [IMAGE], opset=7, scales=[1.0, 1.0, 2.0, 2.0]),
    float_node("CastLike", [[3, 4], [1]]),
    float_node("Cast", [[3, 4]], to=onnx.TensorProto.DOUBLE),
    float_node("Upsample", [IMAGE], opset=5, height_scale=2.0, width_scale=2.0),
]
ELSEWHERE = {
    "Constant": "nothing flows into it",
    "ConstantOfShape": "nothing flows into it",
    "If": "it is followed through its bodies",
    "Loop": "it is followed through its bodies",
    "Scan": "it is followed through its bodies",
    "MaxUnpool": "only behind the MaxPool that it undoes",
    "QLinearConv": "its cases have one channel",
    "Resize": "its cases have one channel",
    "SequenceAt": "only with SplitToSequence, as a Split",
    "STFT": "its cases have a batch of one",
    "Shape": "sizes are computed anew",
    "Size": "sizes are computed anew",
    "SplitToSequence": "only with SequenceAt, as a Split",
}
"""Operators of which a single node shows nothing, with tests of their own."""


@cache
def observed() -> dict[tuple[str, str], tuple[bool, frozenset[str], list[str]]]:
    """By operator: whether any case lets an axis change, the reasons of what mixes, and the cases that do."""
    found: dict[tuple[str, str], list[tuple[str, Observed]]] = defaultdict(list)
    for op, name, model in backend_nodes():
        found["", op].append((name, observe(model)))
    for model in OWN:
        found["", model.graph.node[0].op_type].append(("own", observe(model)))
    for case in CONTRIB:
        found[case.domain, case.op].append((case.op, observe(case.model())))
    for quantised in QUANTISED:
        found["com.microsoft", quantised[0]].append((quantised[0], observe(model_of(quantised)[0])))
    return {
        key: (
            any(moves for _, (moves, _) in cases),
            frozenset().union(*(mixes for _, (_, mixes) in cases)),
            [name for name, (_, mixes) in cases if mixes],
        )
        for key, cases in found.items()
    }


@pytest.mark.parametrize(("domain", "op", "rule"), [pytest.param(*r, id=f"{r[0]}:{r[1]}:{r[2].since}") for r in RULES])
def test_a_rule_does_what_it_declares(domain: str, op: str, rule: Rule) -> None:
    effect, note = rule.effect(op)
    if (domain, op) not in observed():
        assert effect == "frozen" or op in NO_CASE, "a single node of it is needed in OWN or contrib_cases.py"
        return
    moves, mixes, where = observed()[domain, op]
    if effect == "frozen":
        assert not moves
        return
    assert moves or op in ELSEWHERE
    if effect == "mix":
        assert mixes
        assert any(why.split(":")[0] in note or note in why for why in mixes), f"{note!r} is none of {set(mixes)}"
    elif rule.in_training:
        assert all("training" in name or name == "BiasDropout" for name in where)
    else:
        assert not mixes, f"{where} mix"


NO_CASE = {
    "FusedMatMulActivation", "MatMulInteger16", "MulInteger", "QLinearLeakyRelu", "QLinearReduceMean", "QMoE",
    "ReduceSumInteger", "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SequenceMap", "If", "Scan",
}  # fmt: skip
"""Covered by tests of their families alone: packed weights, sequences, bodies, what no build runs."""


def test_exceptions_are_operators_that_have_rules() -> None:
    assert (NO_CASE | set(ELSEWHERE)) <= {op for _, op, _ in RULES}
