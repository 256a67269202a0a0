"""Big weights that stay in the model file: the model is the one that protobuf would have read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper

import onnxprune
from onnxprune.errors import ModelError
from onnxprune.graph.mapped import read_mapped
from tests.graph.protos import UNKNOWN, differences, everything, tensor

BIG = (300, 300)  # 360 kB in float32


def big_model() -> ModelProto:
    """`everything` with big initializers of each kind that stays, and of some that are parsed."""
    random = np.random.default_rng(0)
    model = everything()
    weights = random.normal(size=BIG).astype(np.float32)
    model.graph.initializer.extend(
        [
            tensor("big", weights, doc_string="large"),
            tensor("big half", weights.astype(np.float16)),
            tensor("big int8", random.integers(-128, 127, BIG, np.int8)),
            tensor("indices", random.integers(0, 9, BIG)),
            helper.make_tensor("typed big", TensorProto.FLOAT, BIG, weights.ravel()),
        ]
    )
    model.graph.initializer[-5].metadata_props.add(key="rank", value="7")
    model.graph.initializer[-4].MergeFromString(UNKNOWN)
    return model


def written(model: ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_stay_in_the_file(tmp_path: Path) -> None:
    expected = big_model()
    model = onnxprune.load(written(expected, tmp_path))
    assert sorted(model.pending) == ["big", "big int8"]
    assert model.proto.ByteSize() < expected.ByteSize() - 400_000
    assert differences(model.to_proto(), expected) == []
    assert model.digest == onnxprune.load(expected).digest
    for name in ("big", "big int8"):
        assert np.array_equal(model.array(name), onnx.numpy_helper.to_array(by_name(expected, name)))
        with pytest.raises(ValueError, match="read-only"):
            model.array(name)[0] = 0


def by_name(model: ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


@pytest.mark.parametrize("layout", ["keep", "embedded", "single", "many"])
def test_saved_as_if_parsed(tmp_path: Path, layout: str) -> None:
    source = written(big_model(), tmp_path)
    for name, given in (("mapped", source), ("parsed", big_model())):
        (tmp_path / name).mkdir()
        onnxprune.save(onnxprune.load(given), tmp_path / name / "out.onnx", layout=layout)
    mapped = {p.name: p.read_bytes() for p in (tmp_path / "mapped").iterdir()}
    parsed = {p.name: p.read_bytes() for p in (tmp_path / "parsed").iterdir()}
    assert mapped == parsed


def test_a_name_used_twice_is_parsed(tmp_path: Path) -> None:
    model = big_model()
    model.graph.initializer.add().CopyFrom(by_name(model, "big"))
    with written(model, tmp_path).open("rb") as file:
        assert read_mapped(file) is None
    assert differences(onnxprune.load(tmp_path / "m.onnx").proto, model) == []


@pytest.mark.parametrize("end", [1_200_000, -300_000, -1])
def test_cut_off(tmp_path: Path, end: int) -> None:
    path = written(big_model(), tmp_path)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ModelError, match="cut off or damaged"):
        onnxprune.load(path)


def test_content_of_another_size_is_named_when_it_is_read(tmp_path: Path) -> None:
    model = big_model()
    by_name(model, "big").dims[0] = 301
    loaded = onnxprune.load(written(model, tmp_path))
    with pytest.raises(ModelError, match="needs 361200 bytes"):
        loaded.array("big")


@pytest.mark.parametrize("seed", range(8))
def test_damage_is_found_by_the_parser(tmp_path: Path, seed: int) -> None:
    """Whatever bytes are hit: what the scan gives is what protobuf gives, or it gives up and protobuf has its say."""
    random = np.random.default_rng(seed)
    content = bytearray(big_model().SerializeToString())
    for at in random.integers(0, len(content), 200).tolist() + random.integers(0, 4000, 3).tolist():
        content[at] = random.integers(256)
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    try:
        expected = ModelProto.FromString(bytes(content))
    except DecodeError:
        expected = None
    with path.open("rb") as file:
        found = read_mapped(file)
    if expected is None:
        assert found is None
    elif found is not None:
        model, arrays = found
        for name, array in arrays.items():
            by_name(model, name).raw_data = array().tobytes()
        assert differences(model, expected) == []
