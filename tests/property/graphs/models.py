"""Whole models: a stem, some blocks, perhaps a change between image and sequence, a head."""

from __future__ import annotations

import random

import onnx
from onnx import TensorProto

from tests.property.graphs import channels, images, sequences, windows
from tests.property.graphs.attention import linear
from tests.property.graphs.norms import sequence_norm
from tests.property.graphs.pointwise import activate
from tests.property.graphs.sketch import BATCH, Sketch, Value

KINDS = ("image", "image", "rows", "tokens")
OPSETS = (13, 17, 20)
CLASSES = 5
TOKENS = 6
VOCABULARY = 8


def random_model(rng: random.Random, kind: str | None = None) -> onnx.ModelProto:
    """A model of one of KINDS, with one input and one or two outputs; every choice is drawn from `rng`."""
    s = Sketch(rng, rng.choice(OPSETS), dynamic=rng.random() < 0.4)
    table = None
    match kind or rng.choice(KINDS):
        case "image":
            side = rng.choice([4, 6, 8])
            x = images.plain(s, s.input("image", (BATCH, 3, side, side)))
        case "rows":
            x = sequences.started(s, linear(s, s.input("rows", (BATCH, TOKENS, 5)), rng.choice([6, 8])))
        case _:
            ids = s.input("ids", (BATCH, TOKENS), TensorProto.INT64)
            width = rng.choice([6, 8])
            table = s.weight(VOCABULARY, width)
            x = sequences.started(s, s.op("Gather", table, ids, shape=(BATCH, TOKENS, width), axis=0))
    blocks = rng.randint(1, 4)
    turn = rng.randint(0, 2 * blocks) if x.rank == 4 else -1
    for at in range(blocks):
        if at == turn:
            x = to_sequence(s, x)
        kinds = images.BLOCKS + channels.BLOCKS + 2 * windows.BLOCKS if x.rank == 4 else sequences.BLOCKS
        x = rng.choice(kinds)(s, x)
    outputs = [image_head(s, x) if x.rank == 4 else sequence_head(s, x, table)]
    if s.chance(0.15):
        side_head = image_head if x.rank == 4 else pooled_head
        outputs.append(side_head(s, x))
    return s.model(outputs)


def to_sequence(s: Sketch, x: Value) -> Value:
    """Patches: [N, C, H, W] to [N, HW, C]."""
    n, c, h, w = x.shape
    return s.transpose(s.reshape(x, n, c, h * w), 0, 2, 1)


def image_head(s: Sketch, x: Value) -> Value:
    n, c = x.shape[:2]
    match s.rng.choice(["pooled", "flattened", "picture"]):
        case "pooled":
            pooled = s.op("GlobalAveragePool", x, shape=(n, c, 1, 1))
            return classify(s, s.flatten(pooled))
        case "flattened":
            return classify(s, s.flatten(x))
        case _:
            return images.conv(s, x, CLASSES, kernel=1)


def classify(s: Sketch, x: Value) -> Value:
    """[N, D] to [N, classes], perhaps through a hidden layer."""
    if s.chance(0.4):
        x = activate(s, gemm(s, x, s.rng.choice([6, 8])))
    return gemm(s, x, CLASSES)


def gemm(s: Sketch, x: Value, out: int) -> Value:
    inside, flip = x.shape[1], s.chance(0.7)
    weight = s.weight(out, inside, fan=inside) if flip else s.weight(inside, out, fan=inside)
    return s.op("Gemm", x, weight, s.vector(out), shape=(x.shape[0], out), transB=int(flip))


def pooled_head(s: Sketch, x: Value) -> Value:
    return classify(s, s.reduce("ReduceMean", x, [1], keep=False))


def sequence_head(s: Sketch, x: Value, table: Value | None) -> Value:
    """Every position, the mean of them, the first; or the embedding's own table, tied."""
    n, t, d = x.shape
    if s.chance(0.3):
        x = sequence_norm(s, x)
    if table is not None and table.shape[1] == d and s.chance(0.6):
        return s.op("MatMul", x, s.transpose(table, 1, 0), shape=(n, t, VOCABULARY))
    match s.rng.choice(["every", "mean", "first", "flat"]):
        case "every":
            return linear(s, x, CLASSES)
        case "mean":
            return pooled_head(s, x)
        case "flat":
            return classify(s, s.flatten(x))
        case _:
            first = s.slice(x, 1, 0, 1)
            return classify(s, s.op("Squeeze", first, s.ints(1), shape=(n, d)))
