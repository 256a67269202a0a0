"""Images changed at random: what a change may be, and that model and teacher see the same one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxprune.errors import SettingError
from onnxprune.recover.augment import Augment, drawn_share, mixed
from onnxprune.recover.settings import Settings


def images(n: int = 64) -> np.ndarray:
    return np.random.default_rng(0).random((n, 2, 6, 8), np.float32)


def test_nothing_set_is_nothing_done() -> None:
    assert Augment.of(Settings()) is None
    assert not Settings().changes_samples
    for changed in (Settings(flip=True), Settings(shift=1), Settings(zoom=0.9), Settings(mixup=0.1)):
        assert changed.changes_samples


def test_flipped_images_are_mirrored_or_as_they_were() -> None:
    torch.manual_seed(0)
    x = images()
    found = Augment(flip=True)({"x": x})["x"].numpy()
    same = (found == x).all(axis=(1, 2, 3))
    assert (found[~same] == x[~same, ..., ::-1]).all()
    assert 16 < same.sum() < 48


def test_moved_images_have_zeros_at_the_border() -> None:
    torch.manual_seed(0)
    x = images()
    found = Augment(shift=2)({"x": x})["x"].numpy()
    wide = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    moves = set()
    for image, given in zip(found, wide, strict=True):
        (move,) = [(i, j) for i in range(5) for j in range(5) if (given[:, i : i + 6, j : j + 8] == image).all()]
        moves.add(move)
    assert len(moves) > 15


def test_enlarged_parts_of_a_ramp_are_ramps_within_it() -> None:
    torch.manual_seed(0)
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32), (200, 1, 16, 32)).copy()
    found = Augment(zoom=0.5)({"x": ramp})["x"].numpy()
    assert found.shape == ramp.shape
    steps = np.diff(found[:, 0, 0], axis=1)[:, 1:-1]  # at the border the last place goes on
    assert np.allclose(steps, steps[:, :1], atol=1e-4)
    assert 0.5 <= steps.min() < 0.55
    assert 0.95 < steps.max() <= 1.0001
    assert found.min() >= 0
    assert found.max() <= 31
    assert found[:, 0, 0, 0].min() < 1 < 10 < found[:, 0, 0, 0].max()


def test_other_inputs_stay_as_they_are() -> None:
    feeds = {
        "ids": np.arange(6).reshape(2, 3),
        "flat": np.ones((2, 3), np.float32),
        "masks": np.ones((2, 1, 3, 3), bool),
    }
    found = Augment(flip=True, shift=1, zoom=0.5)(feeds)
    assert all(found[name] is feeds[name] for name in feeds)


def test_mixtures_are_shares_of_two_samples() -> None:
    x = images(4)
    found = mixed({"x": x}, 0.75)["x"].numpy()
    assert found == pytest.approx(0.75 * x + 0.25 * x[::-1], abs=1e-6)
    torch.manual_seed(0)
    shares = [drawn_share(0.2) for _ in range(400)]
    assert all(0 <= share <= 1 for share in shares)
    assert np.mean([share < 0.1 or share > 0.9 for share in shares]) == pytest.approx(0.66, abs=0.08)


def test_tokens_cannot_be_mixed() -> None:
    with pytest.raises(SettingError, match="the input 'ids' has no numbers that could be mixed"):
        mixed({"ids": np.arange(6).reshape(2, 3)}, 0.5)
