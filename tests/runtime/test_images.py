"""Image files to arrays, by a description that is written down."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from onnxprune.errors import RuntimeMissingError, SettingError
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import open_data
from onnxprune.runtime.preprocess import Preprocess, read_preprocess
from tests.support.inputs import view

NCHW = view({"image": (TensorProto.FLOAT, ["n", 3, "h", "w"])})
NHWC = view({"image": (TensorProto.UINT8, ["n", "h", "w", 3])})
GRAY = view({"image": (TensorProto.FLOAT, ["n", 1, "h", "w"])})


def save(folder: Path, name: str, pixels: np.ndarray) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def flat(color: tuple[int, int, int], height: int = 4, width: int = 6) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, np.uint8), (height, width, 3)).copy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in two classes; the red channel is the image's number times ten."""
    save(tmp_path / "images", "cat/1.png", flat((10, 100, 200)))
    save(tmp_path / "images", "ant/2.png", flat((20, 100, 200)))
    save(tmp_path / "images", "cat/3.png", flat((30, 100, 200)))
    return tmp_path / "images"


def only(path: Path, model: GraphView, how: str) -> np.ndarray:
    (batch,) = open_data(path, model, preprocess=how, seed=None).batches(16)
    array = batch.feeds["image"]
    assert array.flags.c_contiguous
    return array


def test_classes_are_folders_in_order_of_their_names(folder: Path) -> None:
    data = open_data(folder, NCHW, preprocess="raw", seed=None)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1]
    (batch,) = data.batches(16)
    assert batch.feeds["image"].dtype == np.float32
    assert batch.feeds["image"].shape == (3, 3, 4, 6)
    assert batch.feeds["image"][:, :, 0, 0].tolist() == [[20, 100, 200], [10, 100, 200], [30, 100, 200]]


def test_a_zip_is_read_as_the_folder_is(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in folder.rglob("*.png"):
            archive.write(file, file.relative_to(folder.parent))
    zipped, plain = (open_data(p, NCHW, preprocess="unit", seed=4) for p in (tmp_path / "images.zip", folder))
    assert zipped.labels is not None
    assert plain.labels is not None
    assert zipped.labels.tolist() == plain.labels.tolist()
    assert zipped.sha256 == plain.sha256
    one, other = (next(iter(data.batches(8))).feeds["image"] for data in (zipped, plain))
    assert one.tolist() == other.tolist()


def test_images_of_one_folder_have_no_labels_unless_files_are_numbered(tmp_path: Path) -> None:
    save(tmp_path, "007.png", flat((0, 0, 0)))
    save(tmp_path, "123.png", flat((0, 0, 0)))
    assert open_data(tmp_path, NCHW, preprocess="raw").labels is None
    numbered = open_data(tmp_path, NCHW, preprocess="raw,labels=file", seed=None).labels
    assert numbered is not None
    assert numbered.tolist() == [7, 123]
    save(tmp_path, "cat.png", flat((0, 0, 0)))
    with pytest.raises(SettingError, match=r"labels=file: .* has files that no number names"):
        open_data(tmp_path, NCHW, preprocess="raw,labels=file")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param("raw", [10, 100, 200], id="raw"),
        pytest.param("unit", [10 / 255, 100 / 255, 200 / 255], id="unit"),
        pytest.param("symmetric", [-117.5 / 127.5, -27.5 / 127.5, 72.5 / 127.5], id="symmetric"),
        pytest.param(
            "imagenet", [(10 - 123.675) / 58.395, (100 - 116.28) / 57.12, (200 - 103.53) / 57.375], id="imagenet"
        ),
        pytest.param("raw,color=BGR", [200, 100, 10], id="BGR"),
        pytest.param("mean=10/20/30,scale=2", [0, 40, 85], id="by channel"),
    ],
)
def test_a_pixel_less_the_mean_by_the_scale(tmp_path: Path, how: str, expected: list[float]) -> None:
    save(tmp_path, "a.png", flat((10, 100, 200)))
    assert only(tmp_path, NCHW, how)[0, :, 1, 1].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_channels_last_and_integers_as_the_input_has_them(tmp_path: Path) -> None:
    save(tmp_path, "a.png", flat((10, 100, 200)))
    array = only(tmp_path, NHWC, "raw")
    assert array.dtype == np.uint8
    assert array.shape == (1, 4, 6, 3)
    assert array[0, 0, 0].tolist() == [10, 100, 200]
    with pytest.raises(SettingError, match=r"makes other numbers than uint8"):
        only(tmp_path, NHWC, "unit")


def test_gray(tmp_path: Path) -> None:
    save(tmp_path, "a.png", flat((50, 50, 50)))
    assert only(tmp_path, GRAY, "raw,color=L").tolist() == np.full((1, 1, 4, 6), 50.0).tolist()


def test_the_shorter_side_and_a_crop_from_the_middle(tmp_path: Path) -> None:
    stripes = flat((0, 0, 0), 8, 20)
    stripes[:, 10:] = 100  # the right half
    save(tmp_path, "a.png", stripes)
    assert only(tmp_path, NCHW, "raw,size=4").shape == (1, 3, 4, 10)
    cropped = only(tmp_path, NCHW, "raw,crop=2x4")
    assert cropped.shape == (1, 3, 2, 4)
    assert cropped[0, 0, 0].tolist() == [0, 0, 100, 100]
    assert only(tmp_path, NCHW, "raw,size=5x3").shape == (1, 3, 5, 3)
    assert only(tmp_path, NCHW, "raw,size=16x40,resample=nearest")[0, 0, 0, 18:22].tolist() == [0, 0, 100, 100]


def test_a_size_of_one_number_is_rounded_down_as_torchvision_does(tmp_path: Path) -> None:
    save(tmp_path, "a.png", flat((0, 0, 0), 333, 500))
    assert only(tmp_path, NCHW, "raw,size=256").shape == (1, 3, 256, 384)  # 256 * 500 / 333 = 384.38


def test_descriptions_in_files(tmp_path: Path) -> None:
    settings = {"preset": "imagenet", "size": [8, 6], "crop": 4, "layout": "NCHW", "mean": 5}
    (tmp_path / "how.json").write_text(json.dumps(settings))
    (tmp_path / "how.toml").write_text('preset = "imagenet"\nsize = [8, 6]\ncrop = 4\nlayout = "NCHW"\nmean = 5\n')
    expected = Preprocess((5.0,), (58.395, 57.12, 57.375), (8, 6), (4, 4), "NCHW")
    assert read_preprocess(str(tmp_path / "how.json")) == expected
    assert read_preprocess(str(tmp_path / "how.toml")) == expected
    assert read_preprocess("imagenet,size=8x6,crop=4,layout=NCHW,mean=5") == expected


@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param("size=4", "mean is not given", id="no mean"),
        pytest.param("mean=1", "scale is not given", id="no scale"),
        pytest.param("caffe", "no preset 'caffe'. there are imagenet, unit, symmetric, raw", id="preset"),
        pytest.param("raw,width=4", "there is no 'width'. it is described by mean, scale, size", id="key"),
        pytest.param("raw,size=big", "size=big. it is a number of pixels, or HEIGHTxWIDTH", id="size"),
        pytest.param("raw,size=0", "size=0. give pixels of 1 or more", id="no pixels"),
        pytest.param("raw,crop=1x2x3", "give pixels of 1 or more", id="three sizes"),
        pytest.param("raw,mean=1/2", "mean has 2 numbers for 3 channels", id="channels"),
        pytest.param("raw,scale=0", "scale has a 0", id="zero"),
        pytest.param("raw,mean=x", "mean=x. it is a number, or one per channel", id="no number"),
        pytest.param("raw,layout=CHWN", "layout=CHWN. it is one of NCHW, NHWC", id="layout"),
        pytest.param("missing.json", "it cannot be read", id="no file"),
    ],
)
def test_descriptions_that_are_wrong(how: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        read_preprocess(how)


def test_images_without_a_description_are_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match=r"images need to be told how they become numbers. give --preprocess"):
        open_data(folder, NCHW)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"], ids=["empty", "text", "broken"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "bad.png").write_bytes(content)
    with pytest.raises(SettingError, match=r"cat/bad.png: it is no image that can be read"):
        only(tmp_path, NCHW, "raw")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "jpeg")
    (tmp_path / "half.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(SettingError, match=r"half.jpg: it is no image that can be read: image file is truncated"):
        only(tmp_path, NCHW, "raw")


@pytest.mark.parametrize(
    ("inputs", "how", "message"),
    [
        pytest.param(
            {"image": (1, ["n", 3, 8, 8])},
            "raw",
            "a.png: it is 4x6 when it reaches the model.*give size and crop",
            id="size",
        ),
        pytest.param(
            {"image": (1, ["n", 3, 2, 2])}, "raw,crop=9", "it is 4x6, smaller than the crop of 9x9", id="crop"
        ),
        pytest.param(
            {"image": (1, ["n", 1, 4, 6])},
            "raw,layout=NCHW",
            "RGB images of layout NCHW have 3 channels",
            id="channels",
        ),
        pytest.param({"image": (1, ["n", "c", "h", "w"])}, "raw", "does not show where its channels are", id="layout"),
        pytest.param({"image": (1, ["n", 3, 4, 3])}, "raw", "does not show where its channels are", id="two layouts"),
        pytest.param({"image": (1, ["n", 3])}, "raw", "images feed a model of one input of rank 4", id="rank"),
        pytest.param(
            {"a": (1, ["n", 3, 4, 6]), "b": (1, ["n", 3, 4, 6])},
            "raw",
            "images feed a model of one input",
            id="two inputs",
        ),
    ],
)
def test_images_that_do_not_fit_the_model(tmp_path: Path, inputs: dict, how: str, message: str) -> None:
    save(tmp_path, "a.png", flat((0, 0, 0)))
    with pytest.raises(SettingError, match=message):
        list(open_data(tmp_path, view(inputs), preprocess=how).batches(4))


def test_images_of_several_sizes_in_a_batch_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "a.png", flat((0, 0, 0), 4, 6))
    save(tmp_path, "b.png", flat((0, 0, 0), 5, 6))
    data = open_data(tmp_path, NCHW, preprocess="raw")
    with pytest.raises(SettingError, match=r"samples of 'image' have the shapes \[3, 4, 6\] and \[3, 5, 6\]"):
        list(data.batches(2))
    assert [batch.feeds["image"].shape[0] for batch in data.batches(1)] == [1, 1]


def test_arrays_and_images_do_not_mix(folder: Path) -> None:
    np.savez(folder / "more.npz", image=np.zeros((1, 3, 4, 6), np.float32))
    with pytest.raises(SettingError, match=r"it holds both .npz files and images"):
        open_data(folder, NCHW, preprocess="raw")


def test_pillow_is_asked_for_where_it_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install onnxprune\[images\]"):
        open_data(folder, NCHW, preprocess="raw")
