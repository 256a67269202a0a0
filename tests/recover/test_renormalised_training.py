"""Training with normalisation put back: it learns, goes on after a kill, keeps zeros, and refuses what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxprune.errors import SettingError
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.recover import to_torch
from onnxprune.recover.job import Job
from onnxprune.recover.lasso import GroupLasso
from onnxprune.recover.losses import CrossEntropy
from onnxprune.recover.settings import Settings
from onnxprune.recover.sparse import courses_of
from onnxprune.recover.trainer import Trainer
from onnxprune.runtime.data import open_data
from onnxprune.runtime.metrics import Judge, find_metric
from onnxprune.runtime.ort import RunOptions
from tests.support.learning import classifier, convolutional, write_images, write_points

QUICK = Settings(epochs=3, batch=16)


def job(tmp_path: Path, settings: Settings = QUICK, **changes: Any) -> Job:
    model = load(convolutional())
    data, valid = (
        open_data(write_images(tmp_path / name, count, seed), GraphView(model))
        for name, count, seed in (("train.npz", 96, 1), ("valid.npz", 48, 2))
    )
    judge = Judge(model, valid, find_metric("top1"), options=RunOptions(threads=1))
    return replace(Job(model, to_torch(model), data, judge, settings, CrossEntropy("y"), cpu=True), **changes)


def weights(model: Any) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}


def test_what_suits_the_model_is_chosen(tmp_path: Path) -> None:
    assert vars(Trainer(job(tmp_path)).way) == {"optimiser": "muon", "lr": 6e-3}
    assert vars(Trainer(job(tmp_path, replace(QUICK, renorm="off"))).way) == {"optimiser": "muon", "lr": 3e-3}
    assert vars(Trainer(job(tmp_path, replace(QUICK, optimiser="adamw"))).way) == {"optimiser": "adamw", "lr": 1e-3}
    assert vars(Trainer(job(tmp_path, replace(QUICK, lasso=1.0))).way) == {"optimiser": "adamw", "lr": 3e-4}
    assert vars(Trainer(job(tmp_path, replace(QUICK, lr=0.5))).way) == {"optimiser": "muon", "lr": 0.5}
    plain = load(classifier())
    points = open_data(write_points(tmp_path / "points.npz"), GraphView(plain))
    others = replace(job(tmp_path), model=plain, module=to_torch(plain), data=points)
    assert vars(Trainer(others).way) == {"optimiser": "adamw", "lr": 3e-4}


def test_it_learns_at_a_rate_that_folded_kernels_cannot_bear(tmp_path: Path) -> None:
    done = Trainer(job(tmp_path, replace(QUICK, lr=0.05, epochs=8))).run()
    assert done.before < 0.5
    assert done.metric > 0.8


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    "settings",
    [QUICK, replace(QUICK, ema=0.9, optimiser="sgd"), replace(QUICK, accumulate=2, renorm_fixed=0.5)],
)
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, settings: Settings) -> None:
    whole = Trainer(job(tmp_path, settings)).run()
    folder = tmp_path / "state"
    folder.mkdir()
    last_epoch = whole.history[-2]["step"] + 1

    def kill(told: dict[str, Any]) -> None:
        if told["step"] == last_epoch and "rate" in told:
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(job(tmp_path, settings, folder=folder), told=kill).run()
    resumed = Trainer(job(tmp_path, settings, folder=folder), resume=True).run()
    assert resumed.history == whole.history
    theirs = weights(whole.model)
    assert all(np.array_equal(value, theirs[name]) for name, value in weights(resumed.model).items())


@pytest.mark.parametrize("course", ["oneshot", "gradual", "rigl", "rewind"])
def test_zeros_stay_zeros(tmp_path: Path, course: str) -> None:
    sparse = job(tmp_path, keep_last=True)
    sparse.courses = courses_of(sparse.module, "1:3", course)
    found = weights(Trainer(sparse).run().model)["wa"]
    assert (np.count_nonzero(found, axis=1) == 1).all()  # of three input channels


def test_a_penalty_is_of_the_weights_that_are_written(tmp_path: Path) -> None:
    """Units 2 and 3 are to go: their kernels shrink, whatever normalises them meanwhile."""
    settings = replace(QUICK, epochs=8, lr=0.02, lasso=0.3, optimiser="adamw")
    for renorm in ("auto", "on"):
        pushed = job(tmp_path, replace(settings, renorm=renorm), keep_last=True)
        pushed.penalty = GroupLasso({"wa": {0: [0, 1, 4, 5]}}, 0.3)
        before, after = weights(pushed.model)["wa"], weights(Trainer(pushed).run().model)["wa"]
        assert np.linalg.norm(after[[2, 3]]) < 0.8 * np.linalg.norm(before[[2, 3]])


def test_normalisation_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"--renorm on: .* has no convolution that could be normalised\. .*batch of 8"
    ):
        Trainer(job(tmp_path, replace(QUICK, renorm="on", batch=4)))
    with pytest.raises(SettingError, match=r"--renorm yes: unknown\. give one of auto, on, off"):
        Settings(renorm="yes")
