"""Samples from image files, read with Pillow; the class is the name of the folder that an image lies in."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np

from onnxprune.errors import RuntimeMissingError, SettingError
from onnxprune.runtime.files import Files
from onnxprune.runtime.inputs import InputSpec, listed
from onnxprune.runtime.preprocess import COLORS, Preprocess

_RANK = 4


class ImageStore:
    """One image a sample, as arrays for the model's only input, of rank 4."""

    def __init__(self, files: Files, specs: Mapping[str, InputSpec], how: Preprocess) -> None:
        self.origin = str(files.root)
        self._files, self._how = files, how
        self._pillow = _pillow()
        self._spec = _image_input(specs, self.origin)
        self._layout = how.layout or _layout(self._spec, COLORS[how.color])
        self._check_channels()

    def __len__(self) -> int:
        return len(self._files.names)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """One image, float32 (or the input's integers) [C, H, W] or [H, W, C]. Raises SettingError, which names it."""
        name = self._files.names[index]
        pixels = self._pixels(name)
        if self._how.color == "BGR":
            pixels = pixels[:, :, ::-1]
        mean, scale = (np.asarray(given, np.float32) for given in (self._how.mean, self._how.scale))
        values = (pixels.astype(np.float32) - mean) / scale
        if self._spec.dtype.kind in "iu":
            whole = np.rint(values)
            bounds = np.iinfo(self._spec.dtype)
            if whole.size and (whole.min() < bounds.min or whole.max() > bounds.max or (whole != values).any()):
                raise SettingError(
                    f"--preprocess: it makes other numbers than {self._spec.dtype}, which {self._spec} takes",
                    remedy="use --preprocess raw, with size and crop as needed",
                )
            values = whole.astype(self._spec.dtype)
        array = values.transpose(2, 0, 1) if self._layout == "NCHW" else values
        for dim, size in zip(self._spec.dims[1:], array.shape, strict=True):
            if isinstance(dim, int) and dim != size:
                raise SettingError(
                    f"{self.origin}/{name}: it is {pixels.shape[0]}x{pixels.shape[1]} when it reaches the model",
                    remedy=f"the model's input is {self._spec}: give size and crop in --preprocess",
                )
        return {self._spec.name: np.ascontiguousarray(array)}

    def labels(self) -> np.ndarray | None:
        """The number (int64) of the folder's name among all such names, sorted; None where all lie in one folder."""
        paths = [PurePosixPath(name) for name in self._files.names]
        if self._how.labels == "file":
            try:
                return np.asarray([int(path.stem) for path in paths], np.int64)
            except ValueError as error:
                raise SettingError(
                    f"--preprocess labels=file: {self.origin} has files that no number names ({error})",
                    remedy="use labels=folder, with a folder per class",
                ) from error
        folders = [path.parent.name for path in paths]
        classes = {name: number for number, name in enumerate(sorted(set(folders)))}
        return None if len(classes) < 2 else np.asarray([classes[name] for name in folders], np.int64)

    def digest(self, index: int) -> bytes:
        """A hash of the file."""
        return hashlib.sha256(self._files.read(self._files.names[index])).digest()

    def _pixels(self, name: str) -> np.ndarray:
        """The image, resized and cropped: uint8 [H, W, C]."""
        content = self._files.read(name)
        try:
            with self._pillow.open(io.BytesIO(content)) as image:
                converted = image.convert("L" if self._how.color == "L" else "RGB")
        except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow raises for broken files
            raise SettingError(
                f"{self.origin}/{name}: it is no image that can be read: {error}", remedy="remove or replace it"
            ) from error
        resized = _cropped(_resized(converted, self._how), self._how.crop, f"{self.origin}/{name}")
        array = np.asarray(resized)
        return array[:, :, None] if array.ndim == 2 else array

    def _check_channels(self) -> None:
        place = 1 if self._layout == "NCHW" else _RANK - 1
        channels, wanted = COLORS[self._how.color], self._spec.dims[place]
        if isinstance(wanted, int) and wanted != channels:
            raise SettingError(
                f"--preprocess: {self._how.color} images of layout {self._layout} have {channels} channels",
                remedy=f"the model's input is {self._spec}: set color=RGB, BGR or L, and layout",
            )


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise RuntimeMissingError(
            f"Pillow, which reads images, is not installed ({error})", remedy="pip install onnxprune[images]"
        ) from error
    found: ModuleType = Image
    return found


def _image_input(specs: Mapping[str, InputSpec], origin: str) -> InputSpec:
    if len(specs) != 1 or any(len(spec.dims) != _RANK or spec.dtype.kind == "O" for spec in specs.values()):
        raise SettingError(
            f"{origin}: images feed a model of one input of rank 4, and this one has {listed(specs)}",
            remedy="give arrays in a .npz, or script.py:function",
        )
    return next(iter(specs.values()))


def _layout(spec: InputSpec, channels: int) -> str:
    first, last = spec.dims[1] == channels, spec.dims[-1] == channels
    if first == last:
        raise SettingError(
            f"--preprocess: the input {spec} does not show where its channels are", remedy="add layout=NCHW or NHWC"
        )
    return "NCHW" if first else "NHWC"


def _resized(image: Any, how: Preprocess) -> Any:
    """`size` of one number is the shorter side, the longer one rounded down, as torchvision's Resize has it."""
    if how.size is None:
        return image
    width, height = image.size
    if len(how.size) == 1:
        short = how.size[0]
        if width <= height:
            target = (short, int(short * height / width))
        else:
            target = (int(short * width / height), short)
    else:
        target = (how.size[1], how.size[0])
    resampling = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # PIL.Image.Resampling
    return image if target == (width, height) else image.resize(target, resampling[how.resample])


def _cropped(image: Any, crop: tuple[int, int] | None, name: str) -> Any:
    if crop is None:
        return image
    width, height = image.size
    if crop[0] > height or crop[1] > width:
        raise SettingError(
            f"{name}: it is {height}x{width}, smaller than the crop of {crop[0]}x{crop[1]}",
            remedy="give a size in --preprocess",
        )
    top, left = round((height - crop[0]) / 2), round((width - crop[1]) / 2)
    return image.crop((left, top, left + crop[1], top + crop[0]))
