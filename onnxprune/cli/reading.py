"""How the text of options is read: sizes, shapes, ratios."""

from __future__ import annotations

import re
from collections.abc import Iterable

from onnxprune.errors import SettingError

_SHAPE = re.compile(r"\s*,?\s*(?P<name>[^\[\]]*?)\s*:\s*\[(?P<sizes>[^\[\]]*)\]\s*")


def read_bind(given: Iterable[str] | None) -> dict[str, int]:
    """`["batch=2,seq=16"]` -> `{"batch": 2, "seq": 16}`. Raises SettingError."""
    found: dict[str, int] = {}
    for text in given or ():
        for part in text.split(","):
            name, sign, size = (piece.strip() for piece in part.rpartition("="))
            if not sign or not name or not _is_size(size):
                raise SettingError(
                    f"--bind {text}: {part.strip()!r} is not of the form DIM=SIZE",
                    remedy="give sizes of 1 or more, for example --bind batch=2,seq=16",
                )
            if found.setdefault(name, int(size)) != int(size):
                raise SettingError(f"--bind gives {name!r} the sizes {found[name]} and {size}", remedy="give it one")
    return found


def read_provider_options(given: Iterable[str] | None) -> tuple[tuple[str, str], ...]:
    """`["trt_sparsity_enable=1"]` -> `(("trt_sparsity_enable", "1"),)`. Raises SettingError."""
    found = []
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise SettingError(f"--provider-option {text}: not of the form KEY=VALUE", remedy="as trt_fp16_enable=1")
        found.append((key, value))
    return tuple(found)


def read_input_shapes(given: Iterable[str] | None) -> dict[str, list[int]]:
    """`["x:[2,3,224,224]"]` -> `{"x": [2, 3, 224, 224]}`; several may stand in one text. Raises SettingError."""
    found: dict[str, list[int]] = {}
    for text in given or ():
        matches = list(_SHAPE.finditer(text))
        remedy = "give inputs with sizes of 1 or more, for example --input-shapes x:[2,3,224,224]"
        if not matches or "".join(match[0] for match in matches) != text:
            raise SettingError(f"--input-shapes {text}: not of the form INPUT:[SIZES]", remedy=remedy)
        for match in matches:
            sizes = [size.strip() for size in match["sizes"].split(",")] if match["sizes"].strip() else []
            if not match["name"] or not all(map(_is_size, sizes)):
                raise SettingError(f"--input-shapes {text}: [{match['sizes']}] is no list of sizes", remedy=remedy)
            found[match["name"]] = [int(size) for size in sizes]
    return found


def read_ratios(given: Iterable[str] | None) -> dict[str, float]:
    """`["*.ffn.*=0.7"]` -> `{"*.ffn.*": 0.7}`. Raises SettingError."""
    found: dict[str, float] = {}
    for text in given or ():
        glob, sign, ratio = text.rpartition("=")
        remedy = "for example --layer-ratio 'layer4.*=0.3'"
        if not sign or not glob:
            raise SettingError(f"--layer-ratio {text}: not of the form GLOB=R", remedy=remedy)
        try:
            found[glob] = float(ratio)
        except ValueError as error:
            raise SettingError(f"--layer-ratio {text}: {ratio!r} is no number", remedy=remedy) from error
    return found


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
