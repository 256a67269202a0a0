"""Bad input is one ModelError that names the file and the tensor; good input of any kind is a Model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import onnx_graphsurgeon
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

import onnxprune
from onnxprune.errors import ModelError, RuntimeMissingError
from onnxprune.graph.external import refer
from onnxprune.graph.io import to_graphsurgeon
from onnxprune.graph.tensors import all_tensors, content_size
from tests.graph.protos import differences, everything, tiny


def refused(source: object) -> str:
    with pytest.raises(ModelError) as caught:
        onnxprune.load(source)  # type: ignore[arg-type]
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(everything(), path)
    model = onnxprune.load(kind(path))
    assert differences(model.proto, everything()) == []
    assert model.path == path
    assert onnxprune.load(model) is model


def test_a_proto_is_referred_to() -> None:
    proto = tiny(8)
    assert onnxprune.load(proto).proto is proto


def test_a_graphsurgeon_graph_in_and_out() -> None:
    graph = to_graphsurgeon(onnxprune.load(tiny(8)))
    assert isinstance(graph, onnx_graphsurgeon.Graph)
    model = onnxprune.load(graph)
    assert model.array("w").tolist() == onnxprune.load(tiny(8)).array("w").tolist()


def test_graphsurgeon_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx_graphsurgeon", None)
    with pytest.raises(RuntimeMissingError, match=r"onnxprune\[graphsurgeon\]"):
        to_graphsurgeon(onnxprune.load(tiny(8)))


def test_something_else() -> None:
    with pytest.raises(TypeError, match="int"):
        onnxprune.load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello, this is no model\n", "not an ONNX model"),
        (b"\n", "not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG image"),
        (b"PK\x03\x04" + bytes(30), "PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "Download the model file"),
        (bytes(1000), "not an ONNX model"),
        (b"\x08\x0a", "no graph and no opset"),  # an IR version and nothing more
        (b"\x3a\x00", "no IR version"),  # an empty graph and nothing more
    ],
)
def test_what_is_not_onnx(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    message = refused(path)
    assert str(path) in message
    assert said in message


def test_truncation_at_every_length(tmp_path: Path) -> None:
    """No prefix crashes; one that loads has lost only what comes after graph and opset."""
    path = tmp_path / "m.onnx"
    whole = tiny(2).SerializeToString()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        message = refused(path)
        assert any(word in message for word in ("empty", "cut off", "not an ONNX model")), message


@pytest.mark.parametrize("name", ["no such file.onnx", "", "a\0b.onnx", "x" * 300])
def test_a_path_to_nothing(tmp_path: Path, name: str) -> None:
    refused(str(tmp_path / name))


def test_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")


def test_an_opset_less_model_of_the_first_days() -> None:
    proto = tiny(2)
    proto.ir_version = 2
    proto.ClearField("opset_import")
    assert onnxprune.load(proto).proto is proto


# --- external data


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "m.onnx"
    path.parent.mkdir()
    onnx.save(tiny(64), path, save_as_external_data=True, location="m.data", size_threshold=0)
    onnxprune.load(path)
    return path


def rewrite(path: Path, **entries: str) -> None:
    proto = onnx.load(path, load_external_data=False)
    tensor = proto.graph.initializer[0]
    kept = {item.key: item.value for item in tensor.external_data} | entries
    tensor.ClearField("external_data")
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


def test_missing_data(external: Path) -> None:
    (external.parent / "m.data").unlink()
    message = refused(external)
    assert str(external) in message
    assert "tensor 'w'" in message
    assert "'m.data'" in message


def test_truncated_data(external: Path) -> None:
    os.truncate(external.parent / "m.data", 64 * 64 * 4 + 7)
    assert "tensor 'b' ends at byte 16640 of its data file 'm.data', which has only 16391" in refused(external)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"length": "12"}, "needs 16384 bytes, but points at 12"),
        ({"offset": "-1"}, "at offset -1"),
        ({"offset": "1000000"}, "ends at byte 1016384"),
        ({"offset": "many"}, "no number"),
        ({"location": ""}, "names no data file"),
        ({"location": "../outside"}, "outside the model's folder"),
        ({"location": "/etc/hostname"}, "outside the model's folder"),
        ({"location": "sub/../../outside"}, "outside the model's folder"),
        ({"location": "."}, "outside the model's folder"),
        ({"location": "link"}, "outside the model's folder"),
        ({"location": "sub"}, "not a readable file"),
        ({"location": "pipe"}, "not a readable file"),
        ({"location": "loop"}, "'loop'"),
        ({"location": "a\0b"}, "no path"),
        ({"location": "y" * 300}, "cannot be read"),
    ],
)
def test_references_that_lead_nowhere(external: Path, entries: dict[str, str], said: str) -> None:
    folder = external.parent
    shutil.copy(folder / "m.data", folder.parent / "outside")
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "loop").symlink_to("loop")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    rewrite(external, **entries)
    message = refused(external)
    assert "tensor 'w'" in message
    assert said in message


@pytest.mark.parametrize("location", ["sub/w.bin", "sub/../m.data", "./m.data", "inside"])
def test_references_that_stay_inside(external: Path, location: str) -> None:
    (external.parent / "sub").mkdir()
    shutil.copy(external.parent / "m.data", external.parent / "sub" / "w.bin")
    (external.parent / "inside").symlink_to("m.data")
    rewrite(external, location=location)
    assert onnxprune.load(external).array("w").tolist() == onnxprune.load(tiny(64)).array("w").tolist()


def test_a_download_cache_of_links(external: Path) -> None:
    """Snapshots of model hubs are links into a folder of blobs, where the data lie beside the model."""
    blobs, snapshot = external.parent.parent / "blobs", external.parent.parent / "snapshot"
    external.parent.rename(blobs)
    snapshot.mkdir()
    for name in ("m.onnx", "m.data"):
        (snapshot / name).symlink_to(blobs / name)
    assert onnxprune.load(snapshot / "m.onnx").array("w").shape == (64, 64)


def test_a_link_to_the_model_elsewhere_needs_its_data_there(external: Path) -> None:
    link = external.parent.parent / "link.onnx"
    link.symlink_to(external)
    assert "'m.data'" in refused(link)


def test_external_strings_are_refused(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    proto.graph.initializer[0].data_type = TensorProto.STRING
    external.write_bytes(proto.SerializeToString())
    assert "strings" in refused(external)


def test_a_proto_without_its_folder(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    assert "without its folder" in refused(proto)
    assert onnxprune.load(proto, folder=external.parent).array("w").shape == (64, 64)


@pytest.mark.parametrize("name", ["a", "c value", "two", "step", "sparse"])
def test_external_data_in_subgraphs_attributes_functions_and_the_like(tmp_path: Path, name: str) -> None:
    def moved() -> ModelProto:
        proto = everything()
        tensor = next(t for t in all_tensors(proto) if t.name == name)
        (tmp_path / "part.bin").write_bytes(tensor.raw_data)
        refer(tensor, "part.bin", 0, content_size(tensor))
        return proto

    path = tmp_path / "m.onnx"
    path.write_bytes(moved().SerializeToString())
    model = onnxprune.load(path)
    assert differences(model.to_proto(external=True), everything()) == []
    (tmp_path / "part.bin").unlink()
    assert f"tensor {name!r}" in refused(path)


def test_text_that_is_not_utf8_passes_through_outside_of_names(tmp_path: Path) -> None:
    """Metadata in a national encoding is found in the wild."""
    path = tmp_path / "m.onnx"
    path.write_bytes(
        everything()
        .SerializeToString()
        .replace(b"the graph", b"\xff\xfee graph")
        .replace(b"the model", b"\xff\xfee model")
    )
    model = onnxprune.load(path)
    onnxprune.save(model.copy(), tmp_path / "o.onnx")
    assert (tmp_path / "o.onnx").read_bytes() == path.read_bytes()
    path.write_bytes(everything().SerializeToString().replace(b"second", b"\xff\xfecond"))
    assert "a name that is not UTF-8" in refused(path)


WHOLE = everything(width=16).SerializeToString()


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_loaded_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever bytes change: a ModelError or a model that can be hashed, saved and loaded again."""
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "m.onnx").write_bytes(content)
    try:
        model = onnxprune.load(folder / "m.onnx")
        identity = model.digest
        onnxprune.save(model, folder / "o.onnx", layout=data.draw(st.sampled_from(["keep", "single"])))
    except ModelError as error:
        refusal = str(error)
    else:
        assert onnxprune.load(folder / "o.onnx").digest == identity
        return
    assert str(folder) in refusal
