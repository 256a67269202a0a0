"""Operators of com.microsoft that nothing is pruned through: a reason of their own each, and no crash."""

from __future__ import annotations

import pytest
from onnx.helper import make_node
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from onnxprune import ops
from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.ops.ms_opaque import REASONS
from tests.support.kernels import asks_for_kernels, kernels
from tests.support.models import units
from tests.support.sandwich import between_matmuls

SHIPPED = sorted(kernels(MICROSOFT))


@pytest.mark.parametrize("op", sorted(REASONS))
def test_the_reason_is_the_operators_own(op: str) -> None:
    nodes = [make_node(op, ["h"], ["u"], domain=MICROSOFT), make_node("MatMul", ["u", "w3"], ["y"])]
    coupling = analyse(
        between_matmuls(nodes, {"w3": [6, 5]}, reads=5), measured={"u": (2, 5, 6), "y": (2, 5, 5), "out": (2, 5, 4)}
    )
    assert units(coupling) == {"w3:1": [{"w3:1": [i], "w2:0": [i]} for i in range(5)]}
    assert {r.why for r in coupling.refusals if r.tensor == "b1"} == {f"{REASONS[op]} [h:2]"}


def test_only_what_onnx_runtime_has_is_named() -> None:
    assert set(REASONS) <= {s.name for s in runtime.get_all_operator_schema() if s.domain == MICROSOFT}


@pytest.mark.parametrize("op", SHIPPED)
def test_every_operator_that_the_cpu_build_ships_has_a_rule(op: str) -> None:
    assert ops.registry().find(MICROSOFT, op, 1) is not None


@asks_for_kernels
def test_most_of_what_is_shipped_is_followed() -> None:
    frozen = [op for op in SHIPPED if ops.registry().find(MICROSOFT, op, 1).effect(op)[0] == "frozen"]
    assert len(frozen) < len(SHIPPED) / 3
