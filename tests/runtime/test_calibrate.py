"""Statistics are what numpy makes of ONNX Runtime's own activations, however the data is cut into batches."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.errors import ModelError, SettingError
from onnxprune.runtime import calibrate as module
from onnxprune.runtime.calibrate import calibrate
from onnxprune.runtime.consumers import Consumer, consumers_of
from onnxprune.runtime.data import Data, open_data
from onnxprune.runtime.moments import ChannelSums, RowProducts
from onnxprune.runtime.pairs import PairReader
from onnxprune.runtime.rows import Sampling, Tokens
from onnxprune.runtime.statistics import KINDS, Statistics
from onnxprune.runtime.stream import stream
from onnxprune.runtime.tap import Tap
from tests.support.models import make_model

CHANNELS, SPATIAL = 6, (5, 4)
BLOCKS = 16 << 20  # what is worked on at a time (see calibrate.py)


def whole(*shape: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers: sums of their products are exact in float32, in whatever order."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def images(batch: int | str = "batch") -> onnx.ModelProto:
    """x [batch, 2, 5, 4] -> 1x1 Conv -> Relu -> depthwise 3x3 -> Relu -> grouped 3x3 (3 groups) -> Relu -> 1x1 Conv."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c0"]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "b"], ["c1"], group=CHANNELS, pads=[1, 1, 1, 1], name="depthwise"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "c"], ["c2"], group=3, pads=[1, 1, 1, 1], name="grouped"),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "d"], ["y"], name="last"),
    ]
    weights = {
        "a": whole(CHANNELS, 2, 1, 1, seed=1), "b": whole(CHANNELS, 1, 3, 3, seed=2),
        "c": whole(9, 2, 3, 3, seed=3), "d": whole(2, 9, 1, 1, seed=4),
    }  # fmt: skip
    return make_model(nodes, {"x": (batch, 2, *SPATIAL)}, ["y"], weights)


def tokens(dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """x [batch, seq, 4] -> MatMul -> Relu -> MatMul; `mask` [batch, seq] goes through untouched."""
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "down"], ["y"], name="down"),
        helper.make_node("Identity", ["mask"], ["m"]),
    ]
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {"up": whole(4, 5, seed=1).astype(kind), "down": whole(5, 3, seed=2).astype(kind)}
    return make_model(
        nodes, {"x": ("batch", "seq", 4), "mask": ("batch", "seq")}, ["y", "m"], weights,
        input_types={"x": dtype, "mask": TensorProto.INT64},
    )  # fmt: skip


def stored(tmp_path: Path, coupling: Coupling, **arrays: np.ndarray) -> Data:
    np.savez(tmp_path / "data.npz", **arrays)
    return open_data(tmp_path / "data.npz", coupling.view, seed=None)


def by_name(found: Statistics, title: str) -> Consumer:
    (consumer,) = [c for c in found.consumers if c.title == title]
    return consumer


@pytest.fixture(scope="module")
def coupling() -> Coupling:
    return analyse(images())


SEVEN = whole(7, 2, *SPATIAL, seed=9)


def activations(coupling: Coupling, name: str) -> np.ndarray:
    return Tap(coupling.view, [name]).values({"x": SEVEN}, "samples")[name].astype(np.float64)


def test_every_consumer_of_every_group_is_there(coupling: Coupling, tmp_path: Path) -> None:
    found = calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), KINDS)
    assert [(c.title, c.source.key) for c in found.consumers] == [
        ("depthwise", "r0:1"),
        ("grouped", "r1:1"),
        ("last", "r2:1"),
    ]
    assert (found.samples, found.synthetic) == (7, False)


def test_channel_statistics_are_those_of_the_activations(coupling: Coupling, tmp_path: Path) -> None:
    found = calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), KINDS)
    for name in ("r0", "r1", "r2"):
        x = activations(coupling, name)
        source = next(c.source for c in found.consumers if c.source.tensor == name)
        assert found.channel("mean", source).tolist() == x.mean(axis=(0, 2, 3)).tolist()
        assert found.channel("second", source).tolist() == (x * x).mean(axis=(0, 2, 3)).tolist()
        assert found.channel("abs", source).tolist() == np.abs(x).mean(axis=(0, 2, 3)).tolist()
        assert found.channel("zeros", source).tolist() == (x == 0).mean(axis=(0, 2, 3)).tolist()
        assert found.count(source) == 7 * 20
        np.testing.assert_allclose(found.variance(source), x.var(axis=(0, 2, 3)), rtol=1e-12)
        assert 0 < np.median(found.channel("zeros", source)) < 1


def windows(x: np.ndarray, groups: int) -> np.ndarray:
    """Rows of a 3x3 convolution with a border of 1, [groups, places, features], the plain way."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    rows = [
        padded[n, :, i : i + 3, j : j + 3].reshape(groups, -1)
        for n in range(len(x))
        for i in range(SPATIAL[0])
        for j in range(SPATIAL[1])
    ]
    return np.stack(rows, axis=1)


@pytest.mark.parametrize(("title", "name", "groups"), [("depthwise", "r0", 6), ("grouped", "r1", 3)])
def test_products_of_rows_are_those_of_windows(
    coupling: Coupling, tmp_path: Path, title: str, name: str, groups: int
) -> None:
    found = calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), ["gram"])
    gram = found.gram(by_name(found, title))
    rows = windows(activations(coupling, name), groups)
    assert gram.rows == rows.shape[1] == 140
    assert gram.mean.tolist() == rows.mean(axis=1).tolist()
    assert gram.second.tolist() == (rows.transpose(0, 2, 1) @ rows / 140).tolist()
    centred = rows - rows.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(gram.covariance, centred.transpose(0, 2, 1) @ centred / 140, atol=1e-10)
    assert gram.has_enough_rows


def test_a_literal(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "eye"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    model = make_model(nodes, {"x": ("n", 2)}, ["y"], {"eye": np.eye(2, dtype=np.float32), "w": (2, 2)})
    coupling = analyse(model)
    found = calibrate(coupling, stored(tmp_path, coupling, x=np.asarray([[1, 0], [3, -4]], np.float32)), KINDS)
    (consumer,) = found.consumers
    read = {kind: found.channel(kind, consumer.source).tolist() for kind in ("mean", "second", "abs", "zeros")}
    assert read == {"mean": [2, -2], "second": [5, 8], "abs": [2, 2], "zeros": [0, 0.5]}
    assert found.variance(consumer.source).tolist() == [1, 4]
    gram = found.gram(consumer)
    assert (gram.second.tolist(), gram.mean.tolist(), gram.rows) == ([[[5, -6], [-6, 8]]], [[2, -2]], 2)
    assert gram.covariance.tolist() == [[[1, -2], [-2, 4]]]
    assert not gram.has_enough_rows


def equal(one: Statistics, other: Statistics) -> bool:
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[key]) for key, array in one.arrays.items()
    )


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=7), positions=st.sampled_from([None, 3, 50]))
def test_batches_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], positions: int | None
) -> None:
    coupling = analyse(images())
    folder = tmp_path_factory.mktemp("cuts")
    ends = np.minimum(np.cumsum(cuts), 7).tolist()
    ends = sorted({*ends, 7})
    yields = "".join(f"    yield {{'x': X[{a}:{b}]}}\n" for a, b in zip([0, *ends[:-1]], ends, strict=True))
    np.save(folder / "x.npy", SEVEN)
    (folder / "cut.py").write_text(
        f"import numpy as np\nX = np.load({str(folder / 'x.npy')!r})\ndef load_data():\n{yields}"
    )
    cut = calibrate(coupling, open_data(str(folder / "cut.py"), coupling.view), KINDS, positions=positions)
    one = calibrate(coupling, stored(folder, coupling, x=SEVEN), KINDS, positions=positions, batch=64)
    assert equal(cut, one)
    assert one.gram(one.consumers[0]).rows == 7 * min(positions or 20, 20)


def test_a_fixed_batch_gives_the_same(coupling: Coupling, tmp_path: Path) -> None:
    fixed = analyse(images(7))
    assert equal(
        calibrate(fixed, stored(tmp_path, fixed, x=SEVEN), KINDS, positions=3),
        calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), KINDS, positions=3, batch=2),
    )


def test_a_small_memory_takes_more_passes_to_the_same(
    coupling: Coupling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, passes = stored(tmp_path, coupling, x=SEVEN), []
    monkeypatch.setattr(module, "stream", lambda *a, **k: passes.append(len(a[1])) or stream(*a, **k))
    whole_ = calibrate(coupling, data, KINDS)
    assert passes == [6]
    passes.clear()
    assert equal(calibrate(coupling, data, KINDS, memory=1), whole_)
    assert passes == [3, 1, 1, 1]


def test_kinds_are_collected_as_asked(coupling: Coupling, tmp_path: Path) -> None:
    found = calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), ["zeros"])
    source = found.consumers[0].source
    assert found.channel("zeros", source).shape == (6,)
    with pytest.raises(SettingError, match="statistics of kind 'mean' were not collected"):
        found.channel("mean", source)
    with pytest.raises(SettingError, match="kind 'gram' were not collected"):
        found.gram(found.consumers[0])
    with pytest.raises(SettingError, match=r"no statistics of kind 'median'. there are mean, second, abs, zeros, gram"):
        calibrate(coupling, kinds=["median"])


def test_progress_is_told(coupling: Coupling, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), batch=3, progress=lambda *now: told.append(now))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_without_data_inputs_are_made_up_and_that_is_said(coupling: Coupling, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = calibrate(coupling, seed=3)
    assert found.synthetic
    assert found.summary()["synthetic"] is True
    assert found.origin == "made-up inputs"
    assert "no data is given: statistics are those of made-up inputs" in caplog.text
    assert equal(found, calibrate(coupling, seed=3))
    assert not equal(found, calibrate(coupling, seed=4))


class TestTokens:
    X = whole(3, 4, 4, seed=5)
    MASK = np.asarray([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])

    def statistics(self, tmp_path: Path, coupling: Coupling, **how: object) -> Statistics:
        return calibrate(coupling, stored(tmp_path, coupling, x=self.X, mask=self.MASK), KINDS, **how)  # type: ignore[arg-type]

    def test_padding_does_not_count(self, tmp_path: Path) -> None:
        coupling = analyse(tokens(), bind={"seq": 4})
        found = self.statistics(tmp_path, coupling, mask="mask", batch=2)
        (consumer,) = found.consumers
        hidden = np.maximum(self.X.astype(np.float64) @ whole(4, 5, seed=1), 0)[self.MASK == 1]
        assert hidden.shape == (8, 5)
        assert found.channel("mean", consumer.source).tolist() == hidden.mean(axis=0).tolist()
        assert found.count(consumer.source) == 8
        assert found.gram(consumer).second.tolist() == [(hidden.T @ hidden / 8).tolist()]
        assert not equal(found, self.statistics(tmp_path, coupling))

    def test_drawn_rows_are_real_tokens(self, tmp_path: Path) -> None:
        coupling = analyse(tokens(), bind={"seq": 4})
        assert self.statistics(tmp_path, coupling, mask="mask", positions=3).gram(_only(coupling)).rows == 2 + 3 + 2

    def test_a_mask_that_is_not_there(self, tmp_path: Path) -> None:
        coupling = analyse(tokens(), bind={"seq": 4})
        with pytest.raises(SettingError, match=r"--mask-input: there is no input 'nope'. there are x, mask"):
            self.statistics(tmp_path, coupling, mask="nope")
        with pytest.raises(SettingError, match=r"'x' has the shape \[3, 4, 4\]. a mask is \[samples, sequence\]"):
            self.statistics(tmp_path, coupling, mask="x")

    @pytest.mark.parametrize(
        ("shape", "axis", "place"),
        [
            pytest.param((3, 4, 8), 2, "leading", id="samples, sequence, width"),
            pytest.param((12, 8), 1, "flat", id="both in one axis"),
            pytest.param((3, 2, 4, 8), 3, "late", id="by head"),
            pytest.param((3, 4, 4, 8), 3, "late", id="by head, as many heads as tokens"),
            pytest.param((3, 8, 4), 1, "last", id="channels first"),
            pytest.param((3, 8), 1, None, id="pooled"),
            pytest.param((4, 3, 8), 0, None, id="the axis itself comes first"),
            pytest.param((5, 4, 8), 2, None, id="another batch"),
        ],
    )
    def test_where_tokens_are(self, shape: tuple[int, ...], axis: int, place: str | None) -> None:
        keep = self.MASK == 1
        expected: dict[str | None, Callable[[], np.ndarray]] = {
            "leading": lambda: keep,
            "flat": lambda: keep.reshape(-1),
            "late": lambda: np.broadcast_to(keep[:, None], (3, shape[1], 4)),
            "last": lambda: keep,
        }
        found = Tokens(keep).over(shape, axis)
        if place is None:
            assert found is None
        else:
            assert found is not None
            assert found.tolist() == expected[place]().tolist()


def _only(coupling: Coupling) -> Consumer:
    (consumer,) = consumers_of(coupling)
    return consumer


def test_halves_add_up_in_full_precision(tmp_path: Path) -> None:
    coupling = analyse(tokens(TensorProto.FLOAT16), bind={"seq": 4})
    x = np.full((40, 50, 4), 8, np.float16)  # 2,000 tokens: sums of squares beyond float16's 65,504
    found = calibrate(coupling, stored(tmp_path, coupling, x=x, mask=np.ones((40, 50), np.int64)), KINDS)
    (consumer,) = found.consumers
    hidden = np.maximum(8 * whole(4, 5, seed=1).sum(axis=0), 0)
    assert hidden.max() > 15
    assert found.channel("mean", consumer.source).tolist() == hidden.tolist()
    assert found.channel("second", consumer.source).tolist() == (hidden**2).tolist()
    assert found.gram(consumer).second[0].tolist() == np.outer(hidden, hidden).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_is_no_number_is_named(coupling: Coupling, tmp_path: Path, value: float) -> None:
    x = SEVEN.copy()
    x[5, 0, 0, 0] = value
    where = "give NaN in the tensor 'x'. check the data" if np.isnan(value) else "make NaN in the tensor 'r0'"
    with pytest.raises(ModelError, match=rf"samples 4 to 6 of .*data.npz {where}"):
        calibrate(coupling, stored(tmp_path, coupling, x=x), batch=4)


def test_the_first_activation_that_overflows_is_named(tmp_path: Path) -> None:
    coupling = analyse(tokens(TensorProto.FLOAT16), bind={"seq": 4})
    x = np.full((2, 4, 4), 60000, np.float16)
    with pytest.raises(ModelError, match=r"infinity in the tensor 'r'.*float16"):
        calibrate(coupling, stored(tmp_path, coupling, x=x, mask=np.ones((2, 4), np.int64)))


def test_an_input_that_a_consumer_reads_may_not_be_infinite(tmp_path: Path) -> None:
    model = make_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (4, 3)}, ["y"], {"w": (3, 2)})
    coupling = analyse(model, allow_io_change=["x"])
    with pytest.raises(ModelError, match=r"data.npz give infinity in the tensor 'x'. check the data"):
        calibrate(coupling, stored(tmp_path, coupling, x=np.full((4, 3), np.inf, np.float32)))


def test_external_data_is_found(tmp_path: Path, coupling: Coupling) -> None:
    (tmp_path / "large").mkdir()
    onnx.save(images(), tmp_path / "large" / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert len(list((tmp_path / "large").iterdir())) == 2
    beside = analyse(tmp_path / "large" / "m.onnx")
    assert equal(
        calibrate(beside, stored(tmp_path, beside, x=SEVEN)), calibrate(coupling, stored(tmp_path, coupling, x=SEVEN))
    )


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """A batch's values (16 x 21 x 24 x 24, float32) are 0.8 MB: ten batches of them may not add up."""
    nodes = images().graph
    model = make_model(
        list(nodes.node), {"x": ("batch", 2, 24, 24)}, ["y"],
        {t.name: onnx.numpy_helper.to_array(t) for t in nodes.initializer},
    )  # fmt: skip
    coupling = analyse(model)

    def peak(samples: int) -> int:
        np.savez(tmp_path / "big.npz", x=np.random.default_rng(0).normal(size=(samples, 2, 24, 24)).astype(np.float32))
        data = open_data(tmp_path / "big.npz", coupling.view)
        tracemalloc.start()
        try:
            calibrate(coupling, data, KINDS, batch=16)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(32), peak(160)
    assert large < small + 400_000
    held = sum(RowProducts.bytes_for(consumer) for consumer in consumers_of(coupling))
    batch = 16 * 21 * 24 * 24 * 4
    assert held < large < held + 2 * batch + BLOCKS


class TestCache:
    def test_what_is_known_is_not_run_again(
        self, coupling: Coupling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data, cache = stored(tmp_path, coupling, x=SEVEN), tmp_path / "cache"
        first = calibrate(coupling, data, KINDS, cache=cache)
        monkeypatch.setattr(module, "stream", None)
        assert equal(calibrate(coupling, data, KINDS, cache=cache), first)
        assert calibrate(coupling, data, KINDS, cache=cache).samples == 7
        assert list(calibrate(coupling, data, ["zeros"], cache=cache).arrays) == [
            *(f"{what} {key}" for key in ("r0:1", "r1:1", "r2:1") for what in ("zeros", "count"))
        ]

    @pytest.mark.parametrize("change", ["data", "order", "model", "seed", "positions", "batch"])
    def test_all_that_matters_is_in_the_key(self, coupling: Coupling, tmp_path: Path, change: str) -> None:
        data, cache = stored(tmp_path, coupling, x=SEVEN), tmp_path / "cache"
        calibrate(coupling, data, ["gram"], cache=cache)
        files = set(cache.rglob("*.npz"))
        how = {"seed": {"seed": 1}, "positions": {"positions": 9}, "batch": {"batch": 2}}.get(change, {})
        if change == "data":
            np.savez(tmp_path / "data.npz", x=SEVEN + 1)
            data = open_data(tmp_path / "data.npz", coupling.view, seed=None)
        elif change == "order":
            data = open_data(tmp_path / "data.npz", coupling.view, seed=1)
        elif change == "model":
            model = images()
            model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(whole(6, 2, 1, 1, seed=7), "a"))
            coupling = analyse(model)
        calibrate(coupling, data, ["gram"], cache=cache, **how)
        assert len(set(cache.rglob("*.npz")) - files) == 1

    @pytest.mark.parametrize("content", [b"", b"PK", None], ids=["empty", "short", "a byte flipped"])
    def test_a_broken_file_is_made_anew(self, coupling: Coupling, tmp_path: Path, content: bytes | None) -> None:
        data, cache = stored(tmp_path, coupling, x=SEVEN), tmp_path / "cache"
        first = calibrate(coupling, data, ["gram"], cache=cache)
        (file,) = cache.rglob("*.npz")
        whole_ = file.read_bytes()
        flipped = bytearray(whole_)
        flipped[len(flipped) // 2] ^= 255
        file.write_bytes(bytes(flipped) if content is None else content)
        assert equal(calibrate(coupling, data, ["gram"], cache=cache), first)
        assert file.read_bytes() == whole_

    def test_a_folder_that_cannot_be_written_is_told_and_no_error(
        self, coupling: Coupling, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "cache").write_text("a file")
        found = calibrate(coupling, stored(tmp_path, coupling, x=SEVEN), cache=tmp_path / "cache")
        assert found.samples == 7
        assert "the cache was not written" in caplog.text


def test_products_with_another_models_output(tmp_path: Path, coupling: Coupling) -> None:
    """What least squares needs: rows of one model with what another gives at the same places."""
    other = images()
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(whole(6, 2, 1, 1, seed=8), "a"))
    teacher = analyse(other)
    data = stored(tmp_path, coupling, x=SEVEN)
    consumer = by_name(calibrate(coupling, data), "grouped")
    reader = PairReader(consumer, Sampling(None), model="student", target=("teacher", "c2"), minus=("student", "c2"))
    products = RowProducts(reader)
    models = {"student": coupling.view, "teacher": teacher.view}
    assert stream(models, [products], data, batch=3) == 7
    found = products.result()
    rows = windows(activations(coupling, "r1"), 3)
    target = activations(teacher, "c2") - activations(coupling, "c2")
    aims = target.transpose(0, 2, 3, 1).reshape(140, 3, 3).transpose(1, 0, 2)
    assert found["second"].tolist() == (rows.transpose(0, 2, 1) @ rows / 140).tolist()
    assert found["cross"].tolist() == (rows.transpose(0, 2, 1) @ aims / 140).tolist()
    assert found["target_mean"].tolist() == aims.mean(axis=1).tolist()
    assert found["target_second"].tolist() == (aims**2).mean(axis=1).tolist()
    assert np.abs(found["cross"]).max() > 1


def test_channel_sums_of_another_model_by_name(tmp_path: Path, coupling: Coupling) -> None:
    data = stored(tmp_path, coupling, x=SEVEN)
    source = calibrate(coupling, data).consumers[0].source
    sums = ChannelSums(source, ["mean"], model="student")
    stream({"student": coupling.view}, [sums], data)
    assert sums.result()["mean"].tolist() == activations(coupling, "r0").mean(axis=(0, 2, 3)).tolist()
