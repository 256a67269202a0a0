"""Training: it learns, the same seed gives the same bytes, a killed run goes on to the same result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from onnxprune.errors import OutputError, SettingError
from onnxprune.graph.io import load
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.recover import to_torch
from onnxprune.recover.features import Feature
from onnxprune.recover.job import Job, Recovered
from onnxprune.recover.losses import CrossEntropy, MeanSquare
from onnxprune.recover.settings import Settings
from onnxprune.recover.sparse import courses_of
from onnxprune.recover.teacher import Teacher
from onnxprune.recover.trainer import Trainer
from onnxprune.runtime.data import open_data
from onnxprune.runtime.metrics import Judge, find_metric
from onnxprune.runtime.ort import RunOptions
from tests.support.learning import classifier, points, write_points

QUICK = Settings(epochs=4, batch=24, lr=0.01, optimiser="adamw")


AVERAGED = replace(QUICK, optimiser="sgd", lr=0.05, ema=0.9)


def job(tmp_path: Path, settings: Settings = QUICK, **changes: Any) -> Job:
    model = load(classifier())
    view = GraphView(model)
    data = open_data(write_points(tmp_path / "train.npz"), view)
    made = Job(model, to_torch(model), data, judge(tmp_path, model), settings, CrossEntropy("y"), cpu=True)
    return replace(made, **changes)


def judge(tmp_path: Path, model: Model, metric: str = "top1") -> Judge:
    """On points that nothing is learnt from; `model` is the dense one, for metrics that compare."""
    valid = open_data(write_points(tmp_path / "valid.npz", count=90, seed=2), GraphView(model))
    return Judge(model, valid, find_metric(metric), options=RunOptions(threads=1))


def weights(done: Recovered) -> dict[str, bytes]:
    return {t.name: t.SerializeToString() for t in done.model.to_proto().graph.initializer}


def test_it_learns(tmp_path: Path) -> None:
    done = Trainer(job(tmp_path)).run()
    assert done.before < 0.6
    assert done.metric > 0.85
    assert [row["epoch"] for row in done.history] == [0, 1, 2, 3, 4]
    assert done.metric == max(row["metric"] for row in done.history)
    assert judge(tmp_path, done.model).score(done.model).value == done.metric


def test_the_metric_says_which_way_is_better(tmp_path: Path) -> None:
    """Of mean square errors to one-hot labels the smallest is the best."""
    x, labels = points(90, 2)
    np.savez(tmp_path / "hot.npz", x=x, labels=np.eye(3, dtype=np.float32)[labels])
    errors = job(tmp_path)
    hot = open_data(tmp_path / "hot.npz", GraphView(errors.model))
    errors.judge = Judge(errors.model, hot, find_metric("mse"), options=RunOptions(threads=1))
    errors.loss, errors.data = MeanSquare("y"), hot
    done = Trainer(errors).run()
    assert done.metric == min(row["metric"] for row in done.history) < done.before


@pytest.mark.parametrize(
    "settings",
    [
        QUICK,
        replace(QUICK, optimiser="sgd", lr=0.05, ema=0.9, accumulate=2),
        replace(QUICK, precision="bf16"),
        replace(QUICK, mixup=0.4),
    ],
)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, settings: Settings) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)  # the precision belongs to the process
    settings = replace(settings, epochs=1)
    assert weights(Trainer(job(tmp_path, settings)).run()) == weights(Trainer(job(tmp_path, settings)).run())
    AcceleratorState._reset_state(True)


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("settings", "course"),
    [
        (QUICK, None),
        (replace(QUICK, mixup=0.4), None),
        (AVERAGED, None),
        (AVERAGED, "gradual"),
        (QUICK, "rigl"),
        (AVERAGED, "rewind"),
    ],
)
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, settings: Settings, course: str | None) -> None:
    def start(folder: Path | None = None) -> Job:
        made = job(tmp_path, settings, folder=folder)
        return made if course is None else replace(made, courses=courses_of(made.module, "2:4", course))

    whole = Trainer(start()).run()
    folder = tmp_path / "state"
    folder.mkdir()

    def kill(told: dict[str, Any]) -> None:
        if told["step"] == 25 and "rate" in told:  # within the third epoch
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(start(folder), told=kill).run()
    resumed = Trainer(start(folder), resume=True).run()
    assert weights(resumed) == weights(whole)
    assert resumed.history == whole.history


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    quick = replace(QUICK, epochs=1)
    Trainer(job(tmp_path, quick, folder=folder, identity={"model": "a"})).run()
    with pytest.raises(SettingError, match=r"state.safetensors is of another model"):
        Trainer(job(tmp_path, quick, folder=folder, identity={"model": "b"}), resume=True)
    with pytest.raises(SettingError, match=r"is of another settings"):
        Trainer(job(tmp_path, replace(quick, lr=0.5), folder=folder, identity={"model": "a"}), resume=True)
    (folder / "state.safetensors").write_bytes(b"no")
    with pytest.raises(SettingError, match="is no readable checkpoint"):
        Trainer(job(tmp_path, quick, folder=folder), resume=True)
    with pytest.raises(SettingError, match=r"there is no .*/none/state.safetensors"):
        Trainer(job(tmp_path, quick, folder=tmp_path / "none"), resume=True)


def test_a_loss_that_is_no_number_names_the_layer(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    wild = job(tmp_path, replace(QUICK, lr=1e30, clip=0.0, optimiser="sgd", warmup=0.0), folder=folder)
    with pytest.raises(
        SettingError,
        match=r"(the loss became (nan|inf)|training broke off) at step \d+: .*(MatMul first|w\d|Gemm last)",
    ) as error:
        Trainer(wild).run()
    assert "best.safetensors" in str(error.value)
    assert (folder / "best.safetensors").exists()


def test_labels_out_of_range(tmp_path: Path) -> None:
    x, labels = np.zeros((30, 6), np.float32), np.full(30, 3)
    np.savez(tmp_path / "wrong.npz", x=x, labels=labels)
    wrong = job(tmp_path)
    wrong.data = open_data(tmp_path / "wrong.npz", GraphView(wrong.model))
    with pytest.raises(SettingError, match="the label 3 is no class: 'y' has 3, numbered from 0"):
        Trainer(wrong).run()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*best.safetensors"):
        Trainer(job(tmp_path, folder=tmp_path / "missing")).run()


def test_a_teacher_alone_teaches(tmp_path: Path) -> None:
    dense = Trainer(job(tmp_path)).run().model
    unlabelled = open_data(write_points(tmp_path / "free.npz", labelled=False), GraphView(dense))
    free = job(tmp_path, loss=None, teacher=Teacher(to_torch(dense)), data=unlabelled)
    free.judge = judge(tmp_path, dense, "agreement")
    done = Trainer(free).run()
    assert done.before < 0.7
    assert done.metric > 0.9


def test_features_of_a_wider_teacher(tmp_path: Path) -> None:
    """The teacher has the model's units among its own: only these are compared."""
    small, wide = load(classifier(8)), load(classifier(16))
    kept = np.arange(0, 16, 2)
    feature = Feature("r", {1: kept})
    teacher = Teacher(to_torch(wide), [feature])
    layers = job(
        tmp_path, replace(QUICK, features=1.0, layerwise=60, layerwise_lr=0.05, epochs=1), teacher=teacher, loss=None
    )
    layers.model, layers.module = small, to_torch(small)
    module = layers.module
    done = Trainer(layers).run()
    assert done.metric >= done.before
    x = torch.from_numpy(np.load(tmp_path / "valid.npz")["x"])
    with torch.no_grad():
        mine, theirs = module.run({"x": x}, ["r"])["r"], teacher.module.run({"x": x}, ["r"])["r"][:, kept]
    assert float((mine - theirs).square().mean() / theirs.square().mean()) < 0.2  # 2 before, for two independent draws


def test_zeros_stay_zeros(tmp_path: Path) -> None:
    model = load(classifier(zero=0.5))
    sparse = job(tmp_path)
    sparse.model, sparse.module = model, to_torch(model)
    sparse.courses = courses_of(sparse.module, "keep", "oneshot")
    before = onnx.numpy_helper.to_array(model.proto.graph.initializer[0])
    after = onnx.numpy_helper.to_array(Trainer(sparse).run().model.to_proto().graph.initializer[0])
    assert ((before == 0) <= (after == 0)).all()
    assert (after[before != 0] != before[before != 0]).all()


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match=r"--optimiser adamax: unknown\. give one of adamw, adam, sgd, muon"):
        Settings(optimiser="adamax")
    with pytest.raises(SettingError, match=r"--lr is 0\. it is more than 0"):
        Settings(lr=0)
    with pytest.raises(SettingError, match=r"--distil is 2\. it is from 0 to 1"):
        Settings(distil=2)
    with pytest.raises(SettingError, match=r"--weight-decay is -0\.1\. it is 0 or more"):
        Settings(weight_decay=-0.1)
    with pytest.raises(SettingError, match=r"--mixup is nan\. it is 0 or more"):
        Settings(mixup=float("nan"))
    for momentum in (-1, 1):
        with pytest.raises(SettingError, match=rf"--momentum is {momentum}\. it is from 0 up to, not including, 1"):
            Settings(momentum=momentum)


@pytest.mark.slow
def test_two_processes_give_one_model(tmp_path: Path) -> None:
    import subprocess
    import sys

    onnx.save(classifier(), tmp_path / "raw.onnx")
    write_points(tmp_path / "data.npz")
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "onnxprune", "recover"]
    words = ["raw.onnx", "-o", "out.onnx", "--data", "data.npz", "--lr", "0.02", "--batch", "12", "--json"]
    done = subprocess.run([sys.executable, *launch, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"output"') == 1
    assert (tmp_path / "out.onnx").exists()
