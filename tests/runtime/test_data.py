"""Samples from .npz files, folders, zips and scripts: which ones, in which order, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.synthetic import SyntheticData
from tests.support.inputs import view

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ONE = view({"x": (FLOAT, ["batch", 2])})
PAIR = view({"ids": (INT64, ["batch", "seq"]), "mask": (INT64, ["batch", "seq"])})
TEN = np.arange(20, dtype=np.float32).reshape(10, 2)  # sample k is [2k, 2k + 1]


def numbers(data: Data, size: int) -> list[list[int]]:
    """Per batch the numbers of its samples of TEN, its padding included."""
    return [(batch.feeds["x"][:, 0] / 2).astype(int).tolist() for batch in data.batches(size)]


@pytest.fixture(params=["stored", "compressed", "folder", "zip"])
def ten(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """TEN with labels 100 to 109, in each form that arrays may come in."""
    labels = np.arange(100, 110)
    if request.param in ("stored", "compressed"):
        path = tmp_path / "ten.npz"
        (np.savez if request.param == "stored" else np.savez_compressed)(path, x=TEN, labels=labels)
        return path
    folder = tmp_path / "ten"
    folder.mkdir()
    for name, low, high in (("a", 0, 4), ("b", 4, 5), ("c", 5, 10)):
        np.savez_compressed(folder / f"{name}.npz", x=TEN[low:high], labels=labels[low:high])
    (folder / ".hidden.npz").write_bytes(b"nothing")
    (folder / "readme.txt").write_text("not data")
    if request.param == "folder":
        return folder
    with zipfile.ZipFile(tmp_path / "ten.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"inside/{file.name}")
    return tmp_path / "ten.zip"


def test_all_samples_in_their_order_without_a_seed(ten: Path) -> None:
    data = open_data(ten, ONE, seed=None)
    assert data.samples == 10
    assert numbers(data, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [(batch.first, batch.size) for batch in data.batches(4)] == [(0, 4), (4, 4), (8, 2)]
    assert data.labels is not None
    assert data.labels.tolist() == list(range(100, 110))


def test_a_seed_shuffles_and_labels_follow(ten: Path) -> None:
    data = open_data(ten, ONE, seed=3)
    order = np.random.default_rng(3).permutation(10).tolist()
    assert numbers(data, 10) == [order]
    assert data.labels is not None
    assert data.labels.tolist() == [100 + k for k in order]


def test_fewer_samples_of_a_seed_are_the_beginning_of_more(ten: Path) -> None:
    every, some = open_data(ten, ONE, seed=5), open_data(ten, ONE, seed=5, samples=4)
    assert numbers(some, 2) == [numbers(every, 10)[0][:2], numbers(every, 10)[0][2:4]]
    assert numbers(open_data(ten, ONE, seed=6, samples=4), 4) != numbers(some, 4)


def test_a_part_is_held_back(ten: Path) -> None:
    data = open_data(ten, ONE, seed=None)
    assert numbers(data.part(0, 7), 10) == [[0, 1, 2, 3, 4, 5, 6]]
    assert numbers(data.part(7), 2) == [[7, 8], [9]]
    assert [batch.first for batch in data.part(7).batches(2)] == [0, 2]


def test_samples_can_be_held(tmp_path: Path) -> None:
    np.savez(tmp_path / "ten.npz", x=TEN)
    data = open_data(tmp_path / "ten.npz", ONE, seed=None)
    first = numbers(data, 4)
    data.hold(3 * 8)  # three samples of two floats
    assert numbers(data, 4) == first
    store = data._store  # type: ignore[attr-defined]
    read: list[int] = []
    store.read, original = lambda index: read.append(index) or original(index), store.read
    assert numbers(data, 4) == first
    assert read == [3, 4, 5, 6, 7, 8, 9]
    read.clear()
    assert numbers(data.part(1, 5), 4) == [[1, 2, 3, 4]]
    assert read == [3, 4]


def test_the_hash_is_of_the_samples_and_not_of_how_they_are_stored(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=TEN)
    np.savez_compressed(tmp_path / "b.npz", x=TEN, labels=np.arange(10))
    np.savez(tmp_path / "c.npz", x=TEN + 1)
    a, b, c = (open_data(tmp_path / f"{name}.npz", ONE) for name in "abc")
    assert a.sha256 == b.sha256 == open_data(tmp_path / "a.npz", ONE).sha256
    assert len({a.sha256, c.sha256, open_data(tmp_path / "a.npz", ONE, seed=1).sha256, a.part(0, 9).sha256}) == 4


class TestAFixedBatch:
    FOUR = view({"x": (FLOAT, [4, 2])})

    def test_what_does_not_fill_a_batch_is_left_out(self, ten: Path) -> None:
        assert numbers(open_data(ten, self.FOUR, seed=None), 64) == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_or_filled_up(self, ten: Path) -> None:
        batches = list(open_data(ten, self.FOUR, seed=None).batches(64, pad=True))
        assert [batch.size for batch in batches] == [4, 4, 2]
        assert batches[2].feeds["x"][:, 0].tolist() == [16, 18, 18, 18]

    def test_too_few_samples_are_refused(self, ten: Path) -> None:
        with pytest.raises(SettingError, match=r"3 samples do not fill one batch. the model takes batches of 4"):
            list(open_data(ten, self.FOUR, samples=3).batches(1))


def test_numbers_are_converted_where_nothing_is_lost(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=TEN.astype(np.float64))
    (batch,) = open_data(tmp_path / "d.npz", ONE, seed=None).batches(16)
    assert batch.feeds["x"].dtype == np.float32
    assert batch.feeds["x"].tolist() == TEN.tolist()
    np.savez(tmp_path / "i.npz", ids=np.ones((2, 3), np.int16), mask=np.ones((2, 3), np.uint8))
    (batch,) = open_data(tmp_path / "i.npz", PAIR).batches(16)
    assert [feed.dtype for feed in batch.feeds.values()] == [np.int64, np.int64]


def test_a_scalar_input_is_the_same_for_all_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=TEN, rate=np.int64(16000))
    data = open_data(tmp_path / "s.npz", view({"x": (FLOAT, ["n", 2]), "rate": (INT64, [])}), seed=None)
    assert [batch.feeds["rate"].tolist() for batch in data.batches(6)] == [16000, 16000]


@pytest.mark.parametrize(
    ("arrays", "model", "message"),
    [
        pytest.param(
            {"y": TEN},
            ONE,
            r"nothing for the input 'x' \(it has 'y'\). the model's inputs: 'x' float32\[batch,2\]",
            id="another name",
        ),
        pytest.param({"x": TEN, "z": TEN}, ONE, "'z', which is no input", id="a name too many"),
        pytest.param(
            {"x": TEN.astype(np.uint8)}, ONE, r"'x' is uint8\[1,2\]. the model's input is 'x' float32", id="type"
        ),
        pytest.param(
            {"x": TEN.reshape(4, 5)},
            ONE,
            r"'x' is float32\[4, 5\]. for N samples the model wants float32\[N,2\]",
            id="size",
        ),
        pytest.param({"x": TEN[None]}, ONE, r"'x' is float32\[1, 10, 2\]", id="rank"),
        pytest.param(
            {"x": TEN, "labels": np.arange(9)},
            ONE,
            "differ in their number of samples: 'x' 10, 'labels' 9",
            id="labels for fewer samples",
        ),
        pytest.param({"x": TEN[:0]}, ONE, "it holds no samples", id="empty"),
        pytest.param(
            {"x": np.asarray([None, 1])}, ONE, "array 'x': it cannot be read: it holds Python objects", id="objects"
        ),
        pytest.param(
            {"ids": np.ones((2, 3), int), "mask": np.ones((3, 3), int)},
            PAIR,
            "differ in their number of samples",
            id="inputs of different length",
        ),
        pytest.param(
            {"ids": np.ones((2, 3), int), "mask": np.ones((2, 4), int)},
            PAIR,
            "the dimension 'seq' is 3 in 'ids' and 4 in 'mask'",
            id="one dimension, two sizes",
        ),
        pytest.param(
            {"x": np.asarray([[1, 2]])}, view({"x": (FLOAT, ["n", 2])}), r"'x' is int64\[1,2\]", id="integers"
        ),
        pytest.param(
            {"x": np.asarray([[300, 2]])},
            view({"x": (TensorProto.INT8, ["n", 2])}),
            r"'x' is int64\[1,2\]",
            id="too large for the type",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: dict, model: GraphView, message: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(SettingError, match=message):
        list(open_data(tmp_path / "data.npz", model).batches(16))


def test_inputs_that_begin_with_different_sizes_need_a_script(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=TEN, state=TEN)
    with pytest.raises(SettingError, match=r"do not begin with the same size.*script.py:function"):
        open_data(tmp_path / "data.npz", view({"x": (FLOAT, ["n", 2]), "state": (FLOAT, [2, "n"])}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("missing.npz", None, "there is no such file or folder", id="missing"),
        pytest.param("broken.npz", b"PK not a zip", "it cannot be read", id="broken npz"),
        pytest.param("notes.txt", b"text", "neither a .npz, a folder, a zip nor script.py:function", id="another kind"),
        pytest.param("missing.py:f", None, "no such script", id="missing script"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingError, match=message):
        open_data(str(tmp_path / name), ONE)


def test_a_truncated_array_is_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=np.random.default_rng(0).normal(size=(500, 2)))
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "broken.npz").write_bytes(bytes(content))
    with pytest.raises(SettingError, match=r"broken.npz, array 'x': it cannot be read"):
        open_data(tmp_path / "broken.npz", ONE)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"it holds no data. files that are read: npz, jpg"):
        open_data(tmp_path, ONE)


def test_no_samples_cannot_be_asked_for(ten: Path) -> None:
    with pytest.raises(SettingError, match="--samples is 0"):
        open_data(ten, ONE, samples=0)


def test_preprocessing_is_for_images(ten: Path) -> None:
    with pytest.raises(SettingError, match="--preprocess is for images"):
        open_data(ten, ONE, preprocess="unit")


SCRIPT = """
import numpy as np
from neighbour import WIDTH

def load_data():
    for k in (3, 1, 2):
        yield {"x": np.full((k, WIDTH), k, np.float32)}

def fails():
    yield {"x": np.zeros((1, 2), np.float32)}
    raise KeyError("no more")

def other():
    yield {"y": np.zeros((1, 2), np.float32)}

def bare():
    yield np.zeros((1, 2), np.float32)

def nothing():
    return []

not_callable = 3
"""


class TestScripts:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        (tmp_path / "neighbour.py").write_text("WIDTH = 2\n")
        (tmp_path / "loader.py").write_text(SCRIPT)
        return tmp_path / "loader.py"

    def test_batches_come_as_they_are_yielded(self, script: Path) -> None:
        data = open_data(f"{script}:load_data", ONE)
        assert data.samples is None
        assert [(b.first, b.size, b.feeds["x"][0, 0]) for b in data.batches(64)] == [(0, 3, 3), (3, 1, 1), (4, 2, 2)]
        assert [b.size for b in data.batches(64)] == [3, 1, 2]  # the function runs anew

    def test_the_default_name_is_polygraphys(self, script: Path) -> None:
        assert [b.size for b in open_data(str(script), ONE).batches(1)] == [3, 1, 2]

    def test_a_limit_cuts_the_last_batch(self, script: Path) -> None:
        assert [b.size for b in open_data(str(script), ONE, samples=5).batches(1)] == [3, 1, 1]
        assert [b.size for b in open_data(str(script), ONE, samples=2).batches(1)] == [2]

    def test_a_fixed_batch_is_not_cut(self, script: Path, tmp_path: Path) -> None:
        (tmp_path / "two.py").write_text(SCRIPT.replace("(3, 1, 2)", "(2, 2)"))
        two = view({"x": (FLOAT, [2, 2])})
        assert [b.size for b in open_data(str(tmp_path / "two.py"), two, samples=3).batches(1)] == [2]

    def test_parts(self, script: Path) -> None:
        part = open_data(str(script), ONE).part(2, 5)
        assert [(b.first, b.size, b.feeds["x"][0, 0]) for b in part.batches(1)] == [(0, 1, 3), (1, 1, 1), (2, 1, 2)]
        assert [b.size for b in part.part(1).batches(1)] == [1, 1]

    def test_the_hash_is_of_what_is_yielded(self, script: Path) -> None:
        data = open_data(str(script), ONE)
        assert data.sha256 == open_data(str(script), ONE).sha256 != open_data(str(script), ONE, samples=5).sha256

    def test_what_ran_to_its_end_is_not_run_again_for_its_hash(self, tmp_path: Path) -> None:
        (tmp_path / "counts.py").write_text(
            "import numpy as np\nruns = []\n"
            "def load_data():\n"
            "    runs.append(1)\n"
            "    yield {'x': np.full((2, 2), len(runs), np.float32)}\n"
        )
        data = open_data(str(tmp_path / "counts.py"), ONE)
        assert [b.feeds["x"][0, 0] for b in data.batches(1)] == [1]
        first = data.sha256
        assert [b.feeds["x"][0, 0] for b in data.batches(1)] == [2]
        assert data.sha256 != first  # it is that of the latest run

    def test_feeds_without_a_common_first_axis_count_as_one_sample(self, tmp_path: Path) -> None:
        (tmp_path / "whole.py").write_text(
            "import numpy as np\n"
            "def load_data():\n"
            "    yield {'x': np.zeros((5, 2), np.float32), 'state': np.zeros((2, 7), np.float32)}\n"
        )
        model = view({"x": (FLOAT, ["n", 2]), "state": (FLOAT, [2, "m"])})
        assert [b.size for b in open_data(str(tmp_path / "whole.py"), model).batches(1)] == [1]

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            pytest.param("fails", "it raised KeyError: 'no more'", id="raises"),
            pytest.param("other", "nothing for the input 'x'", id="another name"),
            pytest.param("bare", "it yields ndarray, no dictionary", id="no dictionary"),
            pytest.param("nothing", "it yields no samples", id="nothing"),
            pytest.param("absent", "it has no function 'absent'", id="absent"),
            pytest.param("not_callable", "it has no function 'not_callable'", id="no function"),
        ],
    )
    def test_what_goes_wrong_is_named(self, script: Path, function: str, message: str) -> None:
        with pytest.raises(SettingError, match=message):
            list(open_data(f"{script}:{function}", ONE).batches(1))

    def test_a_script_that_does_not_load(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
        with pytest.raises(SettingError, match="it raised ModuleNotFoundError"):
            open_data(str(tmp_path / "bad.py"), ONE)


def test_made_up_samples_differ_and_repeat() -> None:
    from onnxprune.graph.bindings import bind_inputs

    def feeds(data: SyntheticData) -> list[list]:
        return [batch.feeds["x"].tolist() for batch in data.batches(8)]

    data = SyntheticData(ONE, bind_inputs(ONE, {"batch": 3}), samples=4, seed=1)
    assert data.synthetic
    assert data.samples == 4
    assert [np.shape(feed) for feed in feeds(data)] == [(3, 2)] * 4
    assert len({str(feed) for feed in feeds(data)}) == 4
    assert feeds(SyntheticData(ONE, bind_inputs(ONE, {"batch": 3}), samples=4, seed=1)) == feeds(data)
    assert not set(map(str, feeds(data.part(2)))) & set(map(str, feeds(data.part(0, 2))))
