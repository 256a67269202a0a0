"""Made-up inputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.errors import SettingError
from onnxprune.runtime.feeds import random_feeds

INPUTS = {
    "x": TensorProto.FLOAT16,
    "ids": TensorProto.INT64,
    "flags": TensorProto.BOOL,
    "attention_mask": TensorProto.INT32,
    "text": TensorProto.STRING,
}


def made(seed: int) -> dict[str, np.ndarray]:
    infos = {name: helper.make_tensor_value_info(name, kind, [4, "n"]) for name, kind in INPUTS.items()}
    return random_feeds(infos, dict.fromkeys(INPUTS, (4, 50)), seed)


def test_kinds_and_shapes() -> None:
    feeds = made(0)
    assert {name: (feed.dtype, feed.shape) for name, feed in feeds.items()} == {
        "x": (np.float16, (4, 50)),
        "ids": (np.int64, (4, 50)),
        "flags": (np.bool_, (4, 50)),
        "attention_mask": (np.int32, (4, 50)),
        "text": (np.dtype(object), (4, 50)),
    }
    assert set(feeds["ids"].ravel()) == {0, 1}
    assert feeds["flags"].all()
    assert (feeds["attention_mask"] == 1).all()
    assert 0.5 < feeds["x"].astype(np.float32).std() < 1.5


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(made(1)["x"], made(1)["x"])
    assert (made(1)["x"] != made(2)["x"]).any()


def test_a_shape_that_nobody_knows() -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    with pytest.raises(SettingError, match="the shape of input 'x' is not known"):
        random_feeds({"x": info}, {})
