from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.errors import ModelError
from onnxprune.graph import tensors
from tests.graph.protos import everything, tensor

NUMBERS = {name: number for name, number in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("dims", [(5,), (2, 3), (), (0, 3)], ids=str)
def test_every_type_in_and_out(name: str, raw: bool, dims: tuple[int, ...]) -> None:
    values = np.resize(np.array([0, 1, 1, 0, 1, 1]), dims).astype(helper.tensor_dtype_to_np_dtype(NUMBERS[name]))
    proto = numpy_helper.from_array(values, name)
    if not raw:
        proto = helper.make_tensor(name, NUMBERS[name], dims, values.ravel())
        assert not proto.HasField("raw_data")
    array = tensors.embedded_array(proto)
    assert array.dtype == values.dtype
    assert array.shape == dims
    assert array.tobytes() == values.tobytes()
    assert not array.flags.writeable
    content = bytes(tensors.embedded_content(proto))
    assert content == numpy_helper.from_array(values).raw_data
    assert len(content) == tensors.content_size(proto)
    again = TensorProto(name=name, data_type=NUMBERS[name], doc_string="kept")
    tensors.set_array(again, array)
    assert tensors.embedded_array(again).tobytes() == values.tobytes()
    assert again.doc_string == "kept"


def test_a_bfloat16_weight_of_every_bit_pattern() -> None:
    values = np.arange(1 << 16, dtype=np.uint16)
    proto = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[1 << 16], raw_data=values.tobytes())
    assert tensors.embedded_array(proto).view(np.uint16).tolist() == values.tolist()


def test_strings_keep_their_bytes() -> None:
    proto = helper.make_tensor("s", TensorProto.STRING, [2, 2], [b"a", b"caf\xc3\xa9", b"\xff\xfe", b""])
    array = tensors.embedded_array(proto)
    assert array[0].tolist() == ["a", "café"]
    tensors.set_array(proto, array[::-1])
    assert list(proto.string_data) == [b"\xff\xfe", b"", b"a", b"caf\xc3\xa9"]


def test_set_array_never_converts() -> None:
    proto = tensor("w", np.zeros(3, dtype=np.float32))
    with pytest.raises(ValueError, match="'w' is FLOAT, not float64"):
        tensors.set_array(proto, np.zeros(2))
    assert tensors.embedded_array(proto).shape == (3,)


def test_set_array_of_a_view_that_is_not_contiguous() -> None:
    proto = tensor("w", np.zeros((2, 2), dtype=np.float32))
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2].T
    tensors.set_array(proto, array)
    assert tensors.embedded_array(proto).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (
            TensorProto(name="w", data_type=1, dims=[3], raw_data=b"1234"),
            r"'w' of shape \[3\] and type FLOAT",
        ),
        (
            TensorProto(name="w", data_type=1, dims=[3], float_data=[1.0]),
            r"'w' of shape \[3\] and type FLOAT",
        ),
        (TensorProto(name="w", data_type=22, dims=[9], int32_data=[1]), "'w' of shape"),
        (TensorProto(name="w", data_type=8, dims=[3], string_data=[b"a"]), "found: 1 strings"),
        (TensorProto(name="w", data_type=99, dims=[3], raw_data=b"1234"), "'w' has element type 99"),
        (TensorProto(name="w", data_type=1, dims=[-1], raw_data=b"1234"), "'w' has a negative dimension"),
    ],
)
def test_damaged_tensors_are_named(proto: TensorProto, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        tensors.embedded_array(proto)


def test_segments_are_refused() -> None:
    proto = TensorProto(name="w", data_type=1, dims=[1], raw_data=b"1234")
    proto.segment.begin = 0
    with pytest.raises(ModelError, match="segments"):
        tensors.embedded_array(proto)


def test_all_tensors_finds_every_tensor_that_protobuf_can_reach() -> None:
    model = everything()

    def count(message: object) -> int:
        own = int(isinstance(message, TensorProto))
        for field, value in message.ListFields():  # type: ignore[attr-defined]
            if field.message_type is not None:
                own += sum(map(count, value if field.is_repeated else [value]))
        return own

    found = list(tensors.all_tensors(model))
    assert len(found) == count(model)
    assert found[: len(model.graph.initializer)] == list(model.graph.initializer)
    assert {"tied", "c value", "a", "two", "sparse", "step"} <= {proto.name for proto in found}
