"""The quickstart: its model is as good as it says, its data is the split that its script makes."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

SAMPLE = Path(__file__).parents[2] / "samples" / "01_quickstart"


@pytest.fixture(scope="module")
def facts() -> dict[str, str]:
    """What the model's metadata says of it."""
    return {entry.key: entry.value for entry in onnx.load(SAMPLE / "digits.onnx").metadata_props}


@pytest.fixture(scope="module")
def held_out() -> dict[str, np.ndarray]:
    with np.load(SAMPLE / "digits_test.npz") as data:
        return dict(data)


def test_model_reaches_the_accuracy_in_its_metadata(facts, held_out):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(SAMPLE / "digits.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": held_out["image"]})
    correct = int((logits.argmax(axis=1) == held_out["labels"]).sum())

    assert len(held_out["labels"]) == int(facts["test_images"])
    assert int(facts["test_correct"]) / int(facts["test_images"]) == pytest.approx(
        float(facts["test_accuracy"]), abs=5e-5
    )
    assert float(facts["test_accuracy"]) >= 0.98
    # One image of tolerance: another runtime version or CPU rounds differently, and a near tie may turn.
    assert correct >= int(facts["test_correct"]) - 1


def test_model_is_small_and_open_in_its_batch():
    model = onnx.load(SAMPLE / "digits.onnx")
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {"image": ["batch", 1, 8, 8], "logits": ["batch", 10]}
    assert (SAMPLE / "digits.onnx").stat().st_size < 1_000_000


def test_data_is_the_split_of_the_training_script(monkeypatch, held_out):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(SAMPLE)
    digits = importlib.import_module("digits")
    train, validation, test = digits.split()

    np.testing.assert_array_equal(held_out["image"], test.images)
    np.testing.assert_array_equal(held_out["labels"], test.labels)
    with np.load(SAMPLE / "digits_calib.npz") as calib:
        assert calib.files == ["image"]
        np.testing.assert_array_equal(calib["image"], validation.images)
    assert [len(part.labels) for part in (train, validation, test)] == [1077, 360, 360]
    assert test.images.dtype == np.float32
    assert (test.images.min(), test.images.max()) == (0, 1)


def test_no_image_is_on_both_sides_of_the_split(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(SAMPLE)
    parts = importlib.import_module("digits").split()

    distinct = [{image.tobytes() for image in part.images} for part in parts]
    assert len(set.union(*distinct)) == sum(map(len, distinct)) == 1797


@pytest.mark.parametrize("second", [[], ["digits.onnx"]], ids=["accuracy", "and_latency"])
def test_evaluate_prints_one_line_and_a_second_for_a_second_model(facts, second):
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "evaluate.py", "digits.onnx", *second]
    run = subprocess.run(command, cwd=SAMPLE, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()

    assert len(lines) == 1 + len(second)
    assert lines[0].startswith("top-1 accuracy 9")
    assert lines[0].endswith(f"of {facts['test_images']} images)")
    assert all("times as fast" in line for line in lines[1:])
