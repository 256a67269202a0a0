from __future__ import annotations

import pytest

from onnxprune.graph.skeleton import copy_model
from onnxprune.graph.tensors import DATA_FIELDS
from tests.graph.protos import differences, everything


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_is_equal_and_independent(seed: int) -> None:
    model = everything(seed)
    copy = copy_model(model, without=lambda tensor: False)
    assert differences(copy, model) == []
    copy.graph.initializer[0].raw_data = b""
    copy.graph.node[0].name = "changed"
    assert differences(model, everything(seed)) == []


def test_only_the_content_is_left_out() -> None:
    model = everything()
    copy = copy_model(model, without=lambda tensor: tensor.name in ("tied", "typed", "raw", "text"))
    for tensor in model.graph.initializer:
        if tensor.name in ("tied", "typed", "raw", "text"):
            for field in DATA_FIELDS:
                tensor.ClearField(field)
    assert differences(copy, model) == []  # the shadowing "raw" of the subgraphs too


def test_all_kinds_of_unknown_fields_are_kept() -> None:
    model = everything()
    varint, fixed64, fixed32 = b"\xb8\x3e\x96\x01", b"\xb9\x3e12345678", b"\xbd\x3e1234"
    group = b"\xbb\x3e" + varint + b"\xbc\x3e"
    model.MergeFromString(varint + fixed64 + fixed32 + group)
    model.graph.MergeFromString(group + fixed32)
    copy = copy_model(model, without=lambda tensor: True)
    for tensor in model.graph.initializer:
        for field in DATA_FIELDS:
            tensor.ClearField(field)
    assert copy.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_a_difference_is_seen() -> None:
    """The comparison that the tests of this folder rest on is not blind."""
    changed = everything()
    changed.graph.node[2].metadata_props[0].value = "layer.2"
    assert differences(changed, everything()) == [".graph.node[2].metadata_props[0].value"]
    changed = everything()
    changed.graph.MergeFromString(b"\xb8\x3e\x01")
    assert differences(changed, everything()) == [".graph: unknown fields"]
    changed = everything()
    del changed.graph.initializer[-1]
    assert differences(changed, everything())
