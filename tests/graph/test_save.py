"""Saving keeps the layout, touches no source file, and changes nothing but where content lies."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

import onnxprune
from onnxprune.errors import ModelError, OutputError, SettingError
from onnxprune.graph.external import entry, refer
from onnxprune.graph.io import check_output
from onnxprune.graph.layout import place
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import all_tensors, content_size, is_external
from tests.graph.protos import differences, everything, tiny


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def split(proto: ModelProto, folder: Path, locations: dict[str, str]) -> Path:
    """Write a model whose tensors of these names lie in these files, end to end; the rest is embedded."""
    folder.mkdir(exist_ok=True)
    for tensor in all_tensors(proto):
        location = locations.get(tensor.name)
        if location is not None and tensor.raw_data:
            path = folder / location
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                offset = file.tell()
                file.write(tensor.raw_data)
            refer(tensor, location, offset, content_size(tensor))
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def locations(path: Path) -> dict[str, str | None]:
    proto = onnx.load(path, load_external_data=False)
    return {t.name: entry(t, "location") for t in all_tensors(proto) if is_external(t)}


@pytest.mark.parametrize("layout", ["keep", "embedded", "single", "many"])
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([1, 16, 64]))
@settings(max_examples=15, deadline=None)
def test_everything_passes_through(
    tmp_path_factory: pytest.TempPathFactory, layout: str, seed: int, width: int
) -> None:
    folder = tmp_path_factory.mktemp("out")
    proto = everything(seed, width=width)
    before = proto.SerializeToString(deterministic=True)
    onnxprune.save(onnxprune.load(proto), folder / "out.onnx", layout=layout)
    assert proto.SerializeToString(deterministic=True) == before
    written = onnxprune.load(folder / "out.onnx")
    assert differences(written.to_proto(external=True), proto) == []
    assert differences(onnx.load(folder / "out.onnx").graph.node[0], proto.graph.node[0]) == []


def test_keep_embedded_is_the_same_file(tmp_path: Path) -> None:
    onnx.save(everything(), tmp_path / "m.onnx")
    saved = onnxprune.save(onnxprune.load(tmp_path / "m.onnx"), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
    assert saved.data_files == ()


def test_keep_one_data_file_and_what_is_embedded(tmp_path: Path) -> None:
    path = split(everything(), tmp_path / "in", {"tied": "weights/w.bin", "c value": "weights/w.bin"})
    before = files(path.parent)
    saved = onnxprune.save(onnxprune.load(path), tmp_path / "out.onnx")
    assert saved.data_files == (tmp_path / "out.onnx.data",)
    assert locations(saved.path) == {"tied": "out.onnx.data", "c value": "out.onnx.data"}
    assert differences(onnxprune.load(saved.path).to_proto(external=True), everything()) == []
    assert files(path.parent) == before
    assert set(files(tmp_path)) - {f"in/{name}" for name in before} == {"out.onnx", "out.onnx.data"}


def test_keep_many_data_files(tmp_path: Path) -> None:
    where = {"tied": "a/w.bin", "c value": "b/w.bin", "a": "m.onnx.a", "step": "b/w.bin"}
    path = split(everything(), tmp_path / "in", where)
    saved = onnxprune.save(onnxprune.load(path), tmp_path / "out.onnx")
    assert locations(saved.path) == {
        "tied": "out.onnx.w.bin",
        "c value": "out.onnx.w.bin-2",
        "a": "out.onnx.a",
        "step": "out.onnx.w.bin-2",
    }
    assert differences(onnxprune.load(saved.path).to_proto(external=True), everything()) == []


def test_single_and_back(tmp_path: Path) -> None:
    model = onnxprune.load(tiny(64))
    onnxprune.save(model, tmp_path / "one.onnx", layout="single")
    assert locations(tmp_path / "one.onnx") == {"w": "one.onnx.data"}  # b is small and stays embedded
    onnxprune.save(onnxprune.load(tmp_path / "one.onnx"), tmp_path / "back.onnx", layout="embedded")
    assert differences(onnx.load(tmp_path / "back.onnx"), tiny(64)) == []


def test_many_names_files_after_output_and_tensor(tmp_path: Path) -> None:
    proto = tiny(64)
    for name in ("layer/W", "layer/w", "x" * 300, "ä:*?"):
        proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])
        proto.graph.initializer[-1].name = name
    saved = onnxprune.save(onnxprune.load(proto), tmp_path / "o.onnx", layout="many")
    names = [path.name.removeprefix("o.onnx.") for path in saved.data_files]
    assert [names[0], names[1], names[2][:10], names[3]] == ["w", "W-2", "w-3"[:10], names[3]]
    assert len({name.casefold() for name in names}) == 5
    assert all(len(name) < 130 and name.isascii() for name in names)
    assert differences(onnxprune.load(saved.path).to_proto(external=True), proto) == []


@pytest.mark.parametrize("layout", ["keep", "embedded", "single", "many"])
def test_onnxruntime_loads_each_layout(tmp_path: Path, layout: str) -> None:
    model = onnxprune.load(split(tiny(64), tmp_path / "in", {"w": "w.bin"}))
    saved = onnxprune.save(model, tmp_path / "o.onnx", layout=layout)
    session = onnxruntime.InferenceSession(str(saved.path), providers=["CPUExecutionProvider"])
    x = np.ones((2, 64), dtype=np.float32)
    np.testing.assert_allclose(
        session.run(None, {"x": x})[0], x @ model.array("w") + model.array("b"), rtol=1e-4, atol=1e-4
    )


def test_tied_ranges_stay_tied(tmp_path: Path) -> None:
    proto = tiny(64)
    proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])
    proto.graph.initializer[-1].name = "twin"
    for tensor in (proto.graph.initializer[0], proto.graph.initializer[-1]):
        refer(tensor, "w.bin", 0, 64 * 64 * 4)
    (tmp_path / "w.bin").write_bytes(tiny(64).graph.initializer[0].raw_data)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    for layout in ("keep", "single", "many"):
        saved = onnxprune.save(onnxprune.load(tmp_path / "m.onnx"), tmp_path / "o.onnx", layout=layout)
        assert [path.stat().st_size for path in saved.data_files] == [64 * 64 * 4]


def test_offsets_suit_the_size(tmp_path: Path) -> None:
    proto = tiny(512)
    for index in range(3):
        for source in (0, 1):
            proto.graph.initializer.add().CopyFrom(proto.graph.initializer[source])
            proto.graph.initializer[-1].name += str(index)
    empty = proto.graph.initializer.add(name="nothing", data_type=1, dims=[0], data_location=1)
    (tmp_path / "e.bin").touch()
    refer(empty, "e.bin", 0, 0)
    saved = onnxprune.save(onnxprune.load(proto, folder=tmp_path), tmp_path / "o.onnx", layout="single")
    for tensor in onnx.load(saved.path, load_external_data=False).graph.initializer:
        offset, size = int(entry(tensor, "offset") or 0), content_size(tensor)
        if size:
            assert offset % (65536 if size >= 1 << 20 else 64) == 0
    assert onnxprune.load(saved.path).array("nothing").size == 0
    onnxruntime.InferenceSession(str(saved.path), providers=["CPUExecutionProvider"])


def test_further_keys_of_external_data(tmp_path: Path) -> None:
    path = split(tiny(64), tmp_path / "in", {"w": "w.bin"})
    proto = onnx.load(path, load_external_data=False)
    more = {"checksum": "0" * 40, "basepath": "/home/someone", "prepacked_0": "key|0;4;1", "vendor": "kept"}
    for key, value in more.items():
        proto.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    saved = onnxprune.save(onnxprune.load(path), tmp_path / "o.onnx")
    tensor = onnx.load(saved.path, load_external_data=False).graph.initializer[0]
    assert {item.key: item.value for item in tensor.external_data} == {
        "location": "o.onnx.data",
        "offset": "0",
        "length": "16384",
        "checksum": hashlib.sha1(saved.data_files[0].read_bytes()).hexdigest(),
        "vendor": "kept",
    }


def pruned(source: Model) -> Model:
    edited = source.copy(without=["w"])
    edited.defer("w", (64, 32), lambda: source.array("w")[:, ::2])
    return edited


@pytest.mark.parametrize("where", [{}, {"w": "w.bin"}, {"w": "w.bin", "b": "b.bin"}], ids=str)
@pytest.mark.parametrize("layout", ["keep", "embedded", "single", "many"])
def test_pending_goes_where_the_tensor_was(tmp_path: Path, where: dict[str, str], layout: str) -> None:
    source = onnxprune.load(split(tiny(64), tmp_path / "in", where))
    saved = onnxprune.save(pruned(source), tmp_path / "o.onnx", layout=layout)
    written = onnxprune.load(saved.path)
    assert written.array("w").tolist() == source.array("w")[:, ::2].tolist()
    assert written.array("b").tolist() == source.array("b").tolist()
    if layout == "keep":
        assert set(locations(saved.path)) == set(where)
    assert written.digest == pruned(source).digest


def test_an_element_type_of_a_later_onnx_passes_through(tmp_path: Path) -> None:
    proto = tiny(64)
    proto.graph.initializer.add(name="later", data_type=99, dims=[2], raw_data=b"123456789")
    proto.graph.node.add(op_type="Constant", output=["c"]).attribute.add(name="value", type=4).t.SetInParent()
    model = onnxprune.load(proto)
    saved = onnxprune.save(model, tmp_path / "o.onnx")
    assert differences(onnx.load(saved.path), proto) == []
    assert onnxprune.load(saved.path).digest == model.digest
    with pytest.raises(ModelError, match="'later' has element type 99"):
        model.array("later")


# --- past 2 GB, with the limit lowered (the real one is in test_large.py)


def test_what_would_be_too_large_leaves_the_model() -> None:
    model = onnxprune.load(tiny(64))
    output = Path("o.onnx")
    assert place(model, "keep", output, largest=1 << 20).files == {}
    placement = place(model, "keep", output, largest=10_000)
    assert placement.files == {0: Path("o.onnx.data")}
    assert placement.spilled == ("w",)


def test_a_spilled_tensor_joins_the_data_file(tmp_path: Path) -> None:
    model = onnxprune.load(split(tiny(512), tmp_path, {"b": "b.bin"}))
    placement = place(model, "keep", Path("o.onnx"), largest=10_000)
    assert placement.files == {0: Path("o.onnx.data"), 1: Path("o.onnx.data")}
    assert place(model, "embedded", Path("o.onnx"), largest=10_000).spilled == ("w", "b")


# --- the source is never written to


def spellings(path: Path, folder: Path) -> dict[str, Path]:
    (folder / "sym.onnx").symlink_to(path)
    os.link(path, folder / "hard.onnx")
    (folder / "other").symlink_to(path.parent)
    return {
        "itself": path,
        "relative": Path(os.path.relpath(path)),
        "roundabout": path.parent / ".." / path.parent.name / path.name,
        "symlink": folder / "sym.onnx",
        "hard link": folder / "hard.onnx",
        "linked folder": folder / "other" / path.name,
    }


@pytest.mark.parametrize("spelling", ["itself", "relative", "roundabout", "symlink", "hard link", "linked folder"])
def test_an_output_equal_to_the_input_is_refused(tmp_path: Path, spelling: str) -> None:
    path = split(tiny(64), tmp_path / "in", {"w": "w.bin"})
    target = spellings(path, tmp_path)[spelling]
    before = files(tmp_path)
    with pytest.raises(OutputError, match="is the input itself"):
        onnxprune.save(pruned(onnxprune.load(path)), target)
    assert files(tmp_path) == before


@pytest.mark.parametrize("layout", ["keep", "single"])
def test_a_data_file_of_the_source_is_never_overwritten(tmp_path: Path, layout: str) -> None:
    path = split(tiny(64), tmp_path, {"w": "out.onnx.data"})
    before = files(tmp_path)
    for model in (onnxprune.load(path), pruned(onnxprune.load(path))):
        with pytest.raises(OutputError, match="is a file of the input"):
            onnxprune.save(model, tmp_path / "out.onnx", layout=layout)
    with pytest.raises(OutputError, match="is the input itself"):
        onnxprune.save(onnxprune.load(path), tmp_path / "out.onnx.data", layout="embedded")
    assert files(tmp_path) == before


def test_an_edit_that_replaced_all_external_data_still_has_its_sources(tmp_path: Path) -> None:
    path = split(tiny(64), tmp_path, {"w": "out.onnx.data"})
    edited = pruned(onnxprune.load(path))
    edited.proto.graph.initializer[0].ClearField("external_data")
    edited.proto.graph.initializer[0].ClearField("data_location")
    with pytest.raises(OutputError, match="is a file of the input"):
        onnxprune.save(edited, tmp_path / "out.onnx", layout="single")


# --- what cannot be written


def test_overwriting_can_be_forbidden(tmp_path: Path) -> None:
    (tmp_path / "o.onnx.data").write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        onnxprune.save(onnxprune.load(tiny(64)), tmp_path / "o.onnx", layout="single", overwrite=False)
    assert files(tmp_path) == {"o.onnx.data": b"precious"}
    onnxprune.save(onnxprune.load(tiny(64)), tmp_path / "o.onnx", layout="single")
    assert onnxprune.load(tmp_path / "o.onnx").array("w").shape == (64, 64)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/o.onnx", "Create the folder"),
        ("folder", "is a folder"),
        ("pipe", "no regular file"),
        ("folder/..", "is a folder"),
        ("a\0b", "no file name"),
        ("file/o.onnx", "cannot write"),
        ("y" * 300, "shorter name"),
    ],
)
@pytest.mark.parametrize("layout", ["keep", "single"])
def test_outputs_that_cannot_be(tmp_path: Path, name: str, said: str, layout: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=said) as caught:
        onnxprune.save(onnxprune.load(tiny(64)), tmp_path / name, layout=layout)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(OutputError, match=said):
        check_output(onnxprune.load(tiny(64)), tmp_path / name)
    assert files(tmp_path) == {"file": b""}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may write to"):
        onnxprune.save(onnxprune.load(tiny(64)), tmp_path / "o.onnx")


def test_a_good_output_is_left_as_it_is(tmp_path: Path) -> None:
    check_output(onnxprune.load(tiny(8)), tmp_path / "new.onnx")
    assert files(tmp_path) == {}
    (tmp_path / "old.onnx").write_text("old")
    check_output(onnxprune.load(tiny(8)), tmp_path / "old.onnx")
    assert files(tmp_path) == {"old.onnx": b"old"}


def test_an_empty_path() -> None:
    with pytest.raises(OutputError, match="no file name"):
        onnxprune.save(onnxprune.load(tiny(8)), "")


def test_an_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'both'"):
        onnxprune.save(onnxprune.load(tiny(8)), tmp_path / "o.onnx", layout="both")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("layout", ["keep", "single", "many"])
def test_a_failing_edit_leaves_nothing(tmp_path: Path, layout: str) -> None:
    def fail() -> np.ndarray:
        raise ZeroDivisionError

    model = onnxprune.load(split(tiny(64), tmp_path / "in", {"b": "b.bin"})).copy()
    model.defer("w", (64, 64), fail)
    before = files(tmp_path)
    with pytest.raises(ZeroDivisionError):
        onnxprune.save(model, tmp_path / "o.onnx", layout=layout)
    assert files(tmp_path) == before


def test_no_warning_without_need(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        onnxprune.save(onnxprune.load(tiny(64)), tmp_path / "o.onnx")
    assert caplog.records == []
