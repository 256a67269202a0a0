"""The text of options, read literally."""

from __future__ import annotations

import pytest

from onnxprune.cli.reading import read_bind, read_input_shapes, read_ratios
from onnxprune.errors import SettingError


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, {}),
        (["batch=2"], {"batch": 2}),
        (["batch=2,seq=16"], {"batch": 2, "seq": 16}),
        ([" batch = 2 ", "seq=16"], {"batch": 2, "seq": 16}),
        (["a=b=3"], {"a=b": 3}),
        (["n=2", "n=2"], {"n": 2}),
    ],
)
def test_bind(given: list[str] | None, read: dict[str, int]) -> None:
    assert read_bind(given) == read


@pytest.mark.parametrize(
    "given", ["batch", "batch=", "=2", "batch=two", "batch=-1", "batch=0", "batch=1.5", "a=1,,b=2", ""]
)
def test_bind_that_cannot_be_read(given: str) -> None:
    with pytest.raises(SettingError, match=r"--bind .* is not of the form DIM=SIZE"):
        read_bind([given])


def test_bind_that_contradicts_itself() -> None:
    with pytest.raises(SettingError, match="'n' the sizes 2 and 3"):
        read_bind(["n=2,n=3"])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, {}),
        (["x:[2,3,224,224]"], {"x": [2, 3, 224, 224]}),
        (["x:[2, 3]", "y:[1]"], {"x": [2, 3], "y": [1]}),
        (["x:[2,3],y:[1]"], {"x": [2, 3], "y": [1]}),
        (["ids:0:[1,16]"], {"ids:0": [1, 16]}),
        (["scalar:[]"], {"scalar": []}),
    ],
)
def test_input_shapes(given: list[str] | None, read: dict[str, list[int]]) -> None:
    assert read_input_shapes(given) == read


@pytest.mark.parametrize(
    "given",
    ["x", "x:", "x:2,3", "x:[2,3", "x:[a]", "x:[0]", "x:[-1]", "x:[1.5]", "x:[1,]", ":[2]", "x:[2] y", "x:[[2]]", ""],
)
def test_input_shapes_that_cannot_be_read(given: str) -> None:
    with pytest.raises(SettingError, match=r"--input-shapes .*\. give inputs with sizes"):
        read_input_shapes([given])


def test_ratios() -> None:
    assert read_ratios(["*.ffn.*=0.7", "a=b=0"]) == {"*.ffn.*": 0.7, "a=b": 0.0}


@pytest.mark.parametrize("given", ["layer", "=0.5", "layer=", "layer=half"])
def test_ratios_that_cannot_be_read(given: str) -> None:
    with pytest.raises(SettingError, match=r"--layer-ratio .*\. for example"):
        read_ratios([given])
