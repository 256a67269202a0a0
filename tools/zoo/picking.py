"""Which files of a folder a tool takes: by name, and of these every so many."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="*", metavar="GLOB", help="files by name without .onnx")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="of these every K-th, by name")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="from number N on, which counts from 0")


def picked(folder: Path, options: argparse.Namespace) -> list[Path]:
    """In the order of names."""
    return sorted(folder.glob(f"{options.only}.onnx"))[options.first :: options.every]
