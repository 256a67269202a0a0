"""com.microsoft's products and look-ups with weights of few bits, which are stored in blocks that share a scale."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxprune.coupling.atoms import Decline, Ids, Link, Operand
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.graph.packing import BYTE, WIDTHS, pack, unpack
from onnxprune.ops.scales import link_blocks

_SCALES, _ZEROS, _GROUPS, _BIAS = 2, 3, 4, 5  # positions of MatMulNBits' inputs
_PACKED = "several elements are packed in a byte"


@rule("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(node: NodeView, link: Link) -> None:
    """A [..., K], B [N, blocks of K, bytes], scales and zero points [N, blocks], bias [N] -> Y [..., N].

    Scales and zero points may be flat, and zero points packed, several blocks to a byte. Columns N go freely, rows K
    in whole blocks.
    """
    a, b, y, block = node.x, node.input(1), node.y, node.attr("block_size")
    bits = node.attr("bits", 4)
    if node.attr("weight_prepacked", 0) or b.rank != 3:
        raise Decline(
            f"{b.name} of shape {b.shape} is laid out for one processor", "prune before the weights are packed"
        )
    for axis in range(a.rank - 1):
        link.same(a[axis], y[axis])
    link.same(b[0], y[-1])
    link.contract(a, -1)
    if node.optional(_GROUPS) is not None:
        _freeze_rows(a, b, "which scale a row has is a table of its own (g_idx)", link)
    elif bits not in WIDTHS:
        _freeze_rows(a, b, f"elements of {bits} bits run across bytes", link)
    else:
        link_blocks(a[-1], b[1], block, (a.name, a.rank - 1), link)
    link.freeze(b[2], _PACKED)
    _link_grid(node.input(_SCALES), b[0], b[1], link)
    if (zeros := node.optional(_ZEROS)) is not None:
        if _is_packed(zeros, bits):
            _link_packed_rows(zeros, b[0], link)
        else:
            _link_grid(zeros, b[0], b[1], link)
    if (bias := node.optional(_BIAS)) is not None:
        link.same(bias[0], y[-1])


def _freeze_rows(a: Operand, b: Operand, why: str, link: Link) -> None:
    link.freeze(a[-1], why, at=(a.name, a.rank - 1))
    link.freeze(b[1], why)


def _is_packed(zeros: Operand, bits: int) -> bool:
    """Zero points are bytes that hold several of them, or numbers like those of A, one each."""
    return bool(zeros.dtype == TensorProto.UINT8 and bits < BYTE)


def _link_grid(x: Operand, rows: Ids, blocks: Ids, link: Link) -> None:
    """One number for each row and block, as [rows, blocks] or flat."""
    if x.rank == 1:
        link.factor(x[0], (len(rows), len(blocks)), (rows, blocks))
    elif x.shape == (len(rows), len(blocks)):
        link.same(x[0], rows)
        link.same(x[1], blocks)
    else:
        raise Decline(f"{x.name} of shape {x.shape} for {len(rows)} rows of {len(blocks)} blocks")


def _link_packed_rows(zeros: Operand, rows: Ids, link: Link) -> None:
    """Bytes for each row, as [rows, bytes] or flat; the bytes of a row are written anew where blocks go."""
    if zeros.rank == 1:
        inside = link.fresh(zeros.shape[0] // len(rows))
        link.freeze(inside, _PACKED, at=(zeros.name, 0))
        link.factor(zeros[0], (len(rows), len(inside)), (rows, inside))
    else:
        link.same(zeros[0], rows)
        zeros.ignore(1)


@matmul_nbits.literals
def _(node: NodeView, edit: Rewrite) -> None:
    a, b, zeros = node.x, node.input(1), node.optional(_ZEROS)
    edit.attr("K", edit.shape(a)[-1])
    edit.attr("N", edit.shape(b)[0])
    bits = node.attr("bits", 4)
    if zeros is not None and edit.changed(b, 1) and _is_packed(zeros, bits):
        stored = node.value(_ZEROS)
        if stored is None:
            edit.refuse(f"its zero points ({zeros.name}) are computed")
            return
        rows = stored.reshape(b.shape[0], -1)[edit.kept(b, 0)]
        repacked = pack(unpack(rows, bits, b.shape[1])[:, edit.kept(b, 1)], bits)
        edit.want(_ZEROS, repacked.reshape(-1) if zeros.rank == 1 else repacked)


@matmul_nbits.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, node.x.rank - 1))


@rule("MatMulBnb4", domain=MICROSOFT)
def matmul_bnb4(node: NodeView, link: Link) -> None:
    """A [..., K], B N rows of K four-bit elements, end to end, absmax one number a block of them -> Y [..., N].

    Columns N go freely where a row is a number of whole blocks, else blocks hold parts of two rows.
    """
    a, b, absmax, y = node.x, node.input(1), node.input(2), node.y
    rows, inner, block = node.attr("N"), node.attr("K"), node.attr("block_size")
    for axis in range(a.rank - 1):
        link.same(a[axis], y[axis])
    if inner % block or not node.attr("transB", 1):
        raise Decline(f"blocks of {block} share a scale, and hold parts of several of its columns")
    link.freeze(a[-1], "columns of its matrix are stored end to end, in blocks that share a scale")
    for stored in (b, absmax):
        inside = link.fresh(stored.shape[0] // rows)
        link.freeze(inside, _PACKED, at=(stored.name, 0))
        link.factor(stored[0], (rows, len(inside)), (y[-1], inside))


@matmul_bnb4.literals
def _(node: NodeView, edit: Rewrite) -> None:
    edit.attr("N", edit.shape(node.y)[-1])


@matmul_bnb4.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, node.x.rank - 1))


@rule("GatherBlockQuantized", domain=MICROSOFT)
def gather_block_quantized(node: NodeView, link: Link) -> None:
    """Gather of a table in blocks along `quantize_axis`, each with a scale (and zero point), as real numbers.

    Of a table of bytes that hold several elements, the last axis of Y is as many times as long; zero points in bytes
    are packed along their last axis, too, and are written anew where blocks go.
    """
    data, indices, scales, y = node.x, node.input(1), node.input(2), node.y
    zeros, per_byte = node.optional(3), _elements_per_byte(node)
    gathered, blocked = node.axis("gather_axis", 0), node.axis("quantize_axis", 1)
    link.freeze(data[gathered], "its indices are addressed by data", at=(data.name, gathered))
    for k in range(indices.rank):
        link.same(indices[k], y[gathered + k])
    last = data.rank - 1
    for axis in range(data.rank):
        if axis == gathered:
            unpacked, place = data[axis], (data.name, axis)
        else:
            target = axis if axis < gathered else axis + indices.rank - 1
            unpacked, place = y[target], (y.name, target)
            if axis == last and per_byte > 1:
                inside = link.fresh(per_byte)
                link.freeze(inside, _PACKED, at=(data.name, axis))
                link.factor(unpacked, (data.shape[axis], per_byte), (data[axis], inside))
            else:
                link.same(unpacked, data[axis])
        if axis == blocked:
            link_blocks(unpacked, scales[axis], node.attr("block_size", 128), place, link)
        else:
            link.same(unpacked, scales[axis])
        if zeros is not None:
            if axis == last and per_byte > 1:
                zeros.ignore(axis)
            else:
                link.same(zeros[axis], scales[axis])


def _elements_per_byte(node: NodeView) -> int:
    return BYTE // int(node.attr("bits", 4)) if node.x.dtype == TensorProto.UINT8 else 1


@gather_block_quantized.literals
def _(node: NodeView, edit: Rewrite) -> None:
    scales, zeros, last = node.input(2), node.optional(3), node.x.rank - 1
    if zeros is None or _elements_per_byte(node) == 1 or not edit.changed(scales, last):
        return
    stored = node.value(3)
    if stored is None:
        edit.refuse(f"its zero points ({zeros.name}) are computed")
        return
    bits = int(node.attr("bits", 4))
    rows = stored[np.ix_(*[edit.kept(zeros, axis) for axis in range(last)])] if last else stored
    edit.want(3, pack(unpack(rows, bits, scales.shape[last])[..., edit.kept(scales, last)], bits))
