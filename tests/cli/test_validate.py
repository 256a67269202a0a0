"""`validate`: figures, limits, exit codes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxprune.edit.apply import apply
from tests.support.commandline import DIGITS, Command, contents

TEST = DIGITS.with_name("digits_test.npz")


@pytest.fixture
def halved(tmp_path: Path, command: Command) -> Path:
    path = tmp_path / "half.onnx"
    assert command("prune", DIGITS, "-o", path, "--max-macs", "50%", "--no-verify").code == 0
    return path


def test_equal_models(command: Command) -> None:
    ran = command("validate", DIGITS, DIGITS, "--data", TEST, "--max-drop", "0.01", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json
    assert (found["metric"], found["samples"], found["passed"], found["broken"]) == ("top1", 360, True, [])
    assert found["dense"] == found["pruned"] == pytest.approx(359 / 360)
    assert found["difference"]["loss"] == 0
    assert not found["difference"]["is_change"]


def test_a_worse_model_fails(command: Command, halved: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    ran = command("validate", DIGITS, halved, "--data", TEST, "--max-drop", "1%")
    assert (ran.code, ran.err) == (9, "")
    assert "failed: top1 is 0.4" in ran.out
    assert "--max-drop allows 0.009972" in ran.out  # of 359 / 360
    assert contents(tmp_path) == before


def test_without_labels(command: Command, halved: Path) -> None:
    data = DIGITS.with_name("digits_calib.npz")
    ran = command("validate", DIGITS, halved, "--data", data, "--metric", "cosine", "--floor", "0.9", "--json")
    assert ran.code == 9
    assert ran.json["dense"] == 1
    assert ran.json["broken"] == [f"cosine is {ran.json['pruned']:.6g}, and --floor asks for 0.9"]


def test_infinite_figures_are_no_numbers_in_json(command: Command) -> None:
    ran = command("validate", DIGITS, DIGITS, "--data", TEST, "--metric", "snr", "--floor", "20", "--json")
    assert ran.code == 0
    assert ran.json["dense"] is None
    assert "difference" not in ran.json


def test_a_strict_limit(command: Command) -> None:
    ran = command("validate", DIGITS, DIGITS, "--data", TEST, "--samples", "50", "--max-drop", "0.01", "--strict")
    assert ran.code == 9
    assert "top1 may be up to 0.0" in ran.out


def test_a_metric_and_labels_of_scripts(command: Command, halved: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        f"test = np.load({str(TEST)!r})\n"
        "def data():\n"
        "    for k in range(0, 360, 90):\n"
        "        yield {'image': test['image'][k:k + 90], 'labels': test['labels'][k:k + 90]}\n"
        "def wrong(outputs, labels): return (outputs.argmax(1) != labels) * 1.0\n"
        "def error(outputs, labels): return (outputs.argmax(1) != labels).mean()\n"
        "def nothing(outputs, labels): return outputs.sum(1) * np.nan\n"
        "def halves(outputs): return outputs['logits'] / 2\n"
    )
    of = f"{tmp_path / 'mine.py'}:"
    common = ("validate", DIGITS, halved, "--data", of + "data", "--json")
    figures = []
    for metric in ("wrong", "error"):
        ran = command(*common, "--metric", of + metric, "--lower-is-better", "--postprocess", of + "halves")
        assert ran.code == 0
        assert ran.json["difference"]["loss"] > 0.4
        figures.append((ran.json["dense"], ran.json["pruned"]))
    assert figures[0] == pytest.approx(figures[1])
    assert figures[0][0] == pytest.approx(1 / 360)
    ran = command(*common, "--metric", of + "nothing")
    assert ran.code == 2
    assert "is NaN or infinite" in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--metric", "top1", "--floor", "0.999"), "--floor 0.999 is better than the dense model's own top1, 0.997"),
        (("--metric", "topp1"), "there is no such metric. did you mean top1?"),
        (("--metric", "mse"), "--metric mse cannot compare an output"),
        (("--metric", "snr", "--max-drop", "1"), "the dense model's own snr is inf"),
        (("--max-drop", "much"), "--max-drop much: it is no number"),
        (("--max-drop=-1",), "--max-drop is -1"),
        (("--metric", "kl", "--max-drop", "5%"), "a share of the dense model's own kl, which is 0"),
        (("--strict",), "--strict says how --max-drop is meant"),
        (("--confidence", "95"), "--confidence is 95"),
        (("--metric-output", "probabilities"), "the model has no such output. it has 'logits' float32"),
        (("--lower-is-better",), "of top1 it is known"),
        (("--metric", "none.py:f"), "there is no such script"),
        (("--postprocess", "f"), "not of the form script.py:function"),
        (("--samples", "1", "--metric", "auc"), "--metric auc is NaN on these 1 samples"),
    ],
)
def test_bad_settings(command: Command, options: tuple[str, ...], said: str) -> None:
    ran = command("validate", DIGITS, DIGITS, "--data", TEST, *options)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_data_without_labels(command: Command) -> None:
    ran = command("validate", DIGITS, DIGITS, "--data", DIGITS.with_name("digits_calib.npz"))
    assert ran.code == 2
    assert "needs labels, and the data has none" in ran.err
    assert "no data is given" in command("validate", DIGITS, DIGITS).err


def test_a_model_of_other_inputs(command: Command, tmp_path: Path) -> None:
    proto = onnx.load(DIGITS)
    for node in proto.graph.node:
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    proto.graph.input[0].name = "picture"
    onnx.save(proto, tmp_path / "other.onnx")
    ran = command("validate", DIGITS, tmp_path / "other.onnx", "--data", TEST)
    assert ran.code == 2
    assert "the data has nothing for the input 'picture'" in ran.err


def test_a_model_that_makes_nan(command: Command, tmp_path: Path) -> None:
    proto = onnx.load(DIGITS)
    bias = next(t for t in proto.graph.initializer if t.name.endswith("bias"))
    bias.raw_data = np.full(tuple(bias.dims), np.nan, np.float32).tobytes()
    onnx.save(proto, tmp_path / "nan.onnx")
    ran = command("validate", DIGITS, tmp_path / "nan.onnx", "--data", TEST)
    assert ran.code == 3
    assert "nan.onnx, samples 0 to 31: the output is NaN or infinite" in ran.err


def test_models_in_memory(halved: Path) -> None:
    import onnxprune

    coupling = onnxprune.analyse(DIGITS)
    plan = onnxprune.load_plan(halved.with_name("half.prune.json"))
    judge = onnxprune.Judge(DIGITS, onnxprune.open_data(TEST, coupling.view), onnxprune.find_metric("agreement"))
    assert judge.score(apply(DIGITS, plan, coupling)).value == judge.score(halved).value
    assert judge.dense.value == 1


def test_latency(command: Command, halved: Path) -> None:
    common = ("validate", DIGITS, halved, "--data", TEST, "--threads", "1", "--rounds", "9", "--json")
    assert "latency" not in command(*common).json
    found = command(*common, "--latency", "--latency-batch", "8").json["latency"]
    assert (found["threads"], found["batch"], found["provider"], found["rounds"]) == (1, 8, "cpu", 9)
    assert 0 < found["pruned_ms"]["p50"] <= found["pruned_ms"]["p90"] <= found["pruned_ms"]["p99"]
    assert found["ratio"]["low"] <= found["ratio"]["median"] <= found["ratio"]["high"]


def test_a_limit_on_latency(command: Command) -> None:
    ran = command("validate", DIGITS, DIGITS, "--data", TEST, "--rounds", "5", "--max-latency", "0.01")
    assert ran.code == 9
    assert "failed: latency is" in ran.out
    assert "and --max-latency 0.01" in ran.out
