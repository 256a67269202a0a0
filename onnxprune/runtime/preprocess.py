"""How an image becomes the model's input: a description that is written down, never guessed.

    imagenet,size=256,crop=224             a preset, and what differs from it
    size=32x32,mean=0,scale=255            all of it
    how.json, how.toml                     the same keys in a file

A pixel of 0 to 255 becomes (pixel - mean) / scale, with one number for all channels or one each, as 0.5/0.4/0.3.
`size` is the shorter side that the image is brought to with its proportions kept, or HEIGHTxWIDTH to force it there;
`crop` cuts that much out of the middle; `layout` is NCHW or NHWC (as the model's input has its channels, unless told);
`color` is RGB, BGR or L; `resample` nearest, bilinear or bicubic; `labels` folder (the class is the folder's name) or
file (the file's name is the label's number).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onnxprune.errors import SettingError

COLORS = {"RGB": 3, "BGR": 3, "L": 1}
_CHOICES = {
    "layout": ("NCHW", "NHWC"),
    "color": tuple(COLORS),
    "resample": ("nearest", "bilinear", "bicubic"),
    "labels": ("folder", "file"),
}


@dataclass(frozen=True)
class Preprocess:
    """See the module. `size` of one number is the shorter side; `layout` of None follows the model's input."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    size: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None
    layout: str | None = None
    color: str = "RGB"
    resample: str = "bilinear"
    labels: str = "folder"


PRESETS: dict[str, dict[str, Any]] = {
    # of x / 255: mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225
    "imagenet": {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)},
    "unit": {"mean": (0.0,), "scale": (255.0,)},
    "symmetric": {"mean": (127.5,), "scale": (127.5,)},
    "raw": {"mean": (0.0,), "scale": (1.0,)},
}


def read_preprocess(given: str) -> Preprocess:
    """The description that `given` is, or that the file so named holds. Raises SettingError for what is wrong in it."""
    values: dict[str, Any] = {}
    if Path(given).suffix in (".json", ".toml"):
        values.update(_from_file(Path(given)))
        if "preset" in values:
            values = {**_preset(values.pop("preset")), **values}
    else:
        for part in filter(None, (piece.strip() for piece in given.split(","))):
            key, sign, value = (piece.strip() for piece in part.partition("="))
            values.update({key: value} if sign else _preset(key))
    known = [field.name for field in fields(Preprocess)]
    for key in values:
        if key not in known:
            raise SettingError(f"--preprocess: there is no {key!r}", remedy=f"it is described by {', '.join(known)}")
    for key in ("mean", "scale"):
        if key not in values:
            raise SettingError(
                f"--preprocess {given}: {key} is not given",
                remedy=f"a pixel of 0 to 255 becomes (pixel - mean) / scale; presets: {', '.join(PRESETS)}",
            )
    return _checked({key: _read(key, value) for key, value in values.items()})


def _preset(name: Any) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise SettingError(
            f"--preprocess: there is no preset {name!r}",
            remedy=f"there are {', '.join(PRESETS)}; all else is KEY=VALUE, as size=256",
        )
    return PRESETS[name]


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise SettingError(f"--preprocess {path}: it cannot be read: {error}", remedy="check the file") from error
    if not isinstance(found, dict):
        raise SettingError(f"--preprocess {path}: it holds no table of settings", remedy='as {"size": 224, …}')
    return found


def _read(key: str, value: Any) -> Any:
    """A value of the description, from text, numbers or lists."""
    if key in _CHOICES:
        if value is not None and value not in _CHOICES[key]:
            raise SettingError(f"--preprocess: {key}={value}", remedy=f"it is one of {', '.join(_CHOICES[key])}")
        return value
    if value in ("none", None) and key in ("size", "crop"):
        return None
    separator = "x" if key in ("size", "crop") else "/"
    parts = value.split(separator) if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    kind = int if key in ("size", "crop") else float
    try:
        numbers = tuple(kind(part) for part in parts)
    except (TypeError, ValueError) as error:
        form = "a number of pixels, or HEIGHTxWIDTH" if kind is int else "a number, or one per channel as 1/2/3"
        raise SettingError(f"--preprocess: {key}={value}", remedy=f"it is {form}") from error
    return (numbers * 2 if len(numbers) == 1 else numbers) if key == "crop" else numbers


def _checked(values: Mapping[str, Any]) -> Preprocess:
    how = Preprocess(**values)
    channels = COLORS[how.color]
    for key in ("mean", "scale"):
        if len(getattr(how, key)) not in (1, channels):
            raise SettingError(
                f"--preprocess: {key} has {len(getattr(how, key))} numbers for {channels} channels",
                remedy="give one, or one per channel",
            )
    if any(number == 0 for number in how.scale):
        raise SettingError("--preprocess: scale has a 0", remedy="pixels are divided by it")
    for key in ("size", "crop"):
        sizes = getattr(how, key)
        if sizes is not None and (len(sizes) > 2 or min(sizes) < 1):
            raise SettingError(f"--preprocess: {key}={'x'.join(map(str, sizes))}", remedy="give pixels of 1 or more")
    return how
