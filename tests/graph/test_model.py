from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import all_tensors, set_dims
from tests.graph.protos import differences, everything, tiny


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "m.onnx"
    path.parent.mkdir()
    onnx.save(everything(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    return path


def test_arrays_are_those_of_the_proto() -> None:
    proto = everything()
    model = onnxprune.load(proto)
    for tensor in all_tensors(proto):
        if tensor.name != "text":
            assert model.array(tensor).tobytes() == numpy_helper.to_array(tensor).tobytes()
    assert model.array("tied").shape == (64, 64)


def test_external_arrays_are_mapped_and_read_only(external: Path) -> None:
    model = onnxprune.load(external)
    assert not model.initializer("tied").HasField("raw_data")
    array = model.array("tied")
    assert array.tobytes() == everything().graph.initializer[0].raw_data
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_an_unknown_name() -> None:
    with pytest.raises(SettingError, match="no initializer 'nope'"):
        onnxprune.load(tiny(8)).array("nope")


def test_a_damaged_tensor_is_named_with_its_file(tmp_path: Path) -> None:
    proto = tiny(8)
    proto.graph.initializer[0].raw_data = b"short"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: tensor 'w' of shape \[8, 8\]"):
        onnxprune.load(tmp_path / "m.onnx").array("w")


def test_pending_arrays_are_computed_when_asked_for() -> None:
    source = onnxprune.load(tiny(8))
    calls: list[str] = []

    def half() -> np.ndarray:
        calls.append("w")
        return source.array("w")[:, :4]

    edited = source.copy(without=["w"])
    edited.defer("w", (8, 4), half)
    assert calls == []
    assert edited.initializer("w").dims == [8, 4]
    assert not edited.initializer("w").HasField("raw_data")
    assert edited.array("w").tolist() == source.array("w")[:, :4].tolist()
    expected = tiny(8)
    expected.graph.initializer[0].CopyFrom(numpy_helper.from_array(source.array("w")[:, :4], "w"))
    assert differences(edited.to_proto(), expected) == []
    assert calls == ["w"] * 2
    assert source.array("w").shape == (8, 8)
    assert edited.digest == onnxprune.load(expected).digest != source.digest


def test_a_pending_array_must_be_what_its_tensor_says() -> None:
    model = onnxprune.load(tiny(8)).copy()
    model.defer("w", (8, 4), lambda: np.zeros((8, 5), dtype=np.float32))
    with pytest.raises(ValueError, match=r"pending 'w' is float32\[8, 5\], its tensor float32\[8, 4\]"):
        model.array("w")
    model.defer("w", (8, 4), lambda: np.zeros((8, 4)))
    with pytest.raises(ValueError, match="float64"):
        model.to_proto()


def test_pending_given_by_hand() -> None:
    """The plain contract: dims in the proto, a function in the dictionary."""
    proto = tiny(8)
    proto.graph.initializer[0].ClearField("raw_data")
    set_dims(proto.graph.initializer[0], (2, 8))
    model = Model(proto, None, {"w": lambda: np.ones((2, 8), dtype=np.float32)})
    assert model.to_proto().graph.initializer[0].raw_data == np.ones((2, 8), dtype=np.float32).tobytes()


def test_pending_does_not_touch_a_subgraph_that_shadows_the_name() -> None:
    model = onnxprune.load(everything()).copy(without=["raw"])
    model.defer("raw", (1,), lambda: np.zeros(1, dtype=np.float32))
    shadows = [tensor for tensor in all_tensors(model.proto) if tensor.name == "raw"][1:]
    assert len(shadows) == 2
    assert all(model.array(tensor).any() for tensor in shadows)
    expected = everything()
    expected.graph.initializer[1].raw_data = bytes(4)
    set_dims(expected.graph.initializer[1], (1,))
    assert differences(model.to_proto(), expected) == []


def test_a_copy_is_independent() -> None:
    model = onnxprune.load(everything())
    copy = model.copy()
    copy.proto.graph.node[0].name = "changed"
    copy.proto.graph.initializer.add(name="new", data_type=1, dims=[0])
    assert copy.array("new").size == 0
    assert differences(model.proto, everything()) == []


def test_to_proto_loads_external_data_only_on_request(external: Path) -> None:
    model = onnxprune.load(external)
    assert differences(model.to_proto(), onnx.load(external, load_external_data=False)) == []
    assert differences(model.to_proto(external=True), everything()) == []


def test_the_hash_does_not_depend_on_where_weights_lie(external: Path, tmp_path: Path) -> None:
    expected = onnxprune.load(everything()).digest
    assert onnxprune.load(external).digest == expected
    onnx.save(everything(), tmp_path / "other name.onnx")
    assert onnxprune.load(tmp_path / "other name.onnx").digest == expected
    raw = everything()
    for tensor in raw.graph.initializer:
        if tensor.name in ("typed", "half"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    assert onnxprune.load(raw).digest == expected


@pytest.mark.parametrize("change", ["weight", "string", "subgraph", "function", "name", "metadata", "dims"])
def test_the_hash_sees_every_change(change: str) -> None:
    proto = everything()
    if change == "weight":
        proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-1] + b"\x01"
    elif change == "string":
        next(t for t in proto.graph.initializer if t.name == "text").string_data[0] = b"tea"
    elif change == "subgraph":
        proto.graph.node[-1].attribute[0].g.initializer[0].raw_data = b"12345678"
    elif change == "function":
        proto.functions[0].node[0].attribute[0].t.raw_data = b"1234"
    elif change == "name":
        proto.graph.node[2].output[0] = "other"
    elif change == "metadata":
        proto.metadata_props[0].value = "you"
    else:
        set_dims(proto.graph.initializer[0], [32, 128])
    assert onnxprune.load(proto).digest != onnxprune.load(everything()).digest
