"""Every operator of ai.onnx that onnx knows has a rule: links, or a reason of its own for being left alone."""

from __future__ import annotations

import pytest
from onnx import defs

from onnxprune import ops
from onnxprune.ops.opaque import opaque

CONTROL_FLOW = {"If", "Loop", "Scan"}  # left alone by the analysis itself, for the bodies that they carry
SCHEMAS = sorted(
    {(s.name, s.since_version) for s in defs.get_all_schemas_with_history() if s.domain == "" and not s.deprecated}
)


@pytest.mark.parametrize(("op", "opset"), [s for s in SCHEMAS if s[0] not in CONTROL_FLOW])
def test_an_operator_has_a_rule(op: str, opset: int) -> None:
    assert ops.registry().find("", op, opset) is not None


def test_what_is_opaque_exists_and_is_little() -> None:
    names = {name for name, _ in SCHEMAS}
    assert set(opaque.ops) <= names
    assert len(opaque.ops) < len(names) / 6
