"""com.microsoft's products with what ONNX Runtime's optimiser puts before or behind: scale, residual, activation."""

from __future__ import annotations

from onnxprune.coupling.atoms import Link
from onnxprune.coupling.nodeview import NodeView, Work, every, work
from onnxprune.coupling.registry import rule
from onnxprune.coupling.rewrite import Rewrite
from onnxprune.graph.contrib import MICROSOFT
from onnxprune.graph.fused_shapes import operand_axes
from onnxprune.ops.conv import link_conv, rewrite_group
from onnxprune.ops.elementwise import broadcast
from onnxprune.ops.matmul import gemm, link_matmul

_BIAS, _RESIDUAL = 2, 3


@rule("FusedConv", domain=MICROSOFT)
def fused_conv(node: NodeView, link: Link) -> None:
    """Conv of X, W and B, with a residual Z of Y's shape added, and an activation of each element."""
    _link_conv(node, link, channels=1)


def _link_conv(node: NodeView, link: Link, channels: int) -> None:
    y = node.y
    link_conv(node.x, node.input(1), y, node.attr("group", 1), link, channels=channels)
    if (bias := node.optional(_BIAS)) is not None:
        link.same(bias[0], y[channels])
    if (residual := node.optional(_RESIDUAL)) is not None:
        link.same_axes(residual, y)
        link.tag(y[channels], "width")


@rule("NhwcConv", "NhwcFusedConv", domain=MICROSOFT)
def nhwc_conv(node: NodeView, link: Link) -> None:
    """FusedConv of X [N, ..., C] to Y [N, ..., K], and Z alike; W is [K, C/g, ...]."""
    _link_conv(node, link, channels=-1)


@fused_conv.literals
@nhwc_conv.literals
def _(node: NodeView, edit: Rewrite) -> None:
    if node.attr("group", 1) > 1:
        rewrite_group(node.x, node.input(1), edit, 1 if node.op == "FusedConv" else -1)


@fused_conv.macs
@nhwc_conv.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), every(node.input(1), 1))


@rule("FusedGemm", domain=MICROSOFT)
def fused_gemm(node: NodeView, link: Link) -> None:
    """Gemm with an activation of each element."""
    gemm.link(node, link)


@fused_gemm.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, 0 if node.attr("transA", 0) else 1))


@rule("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul(node: NodeView, link: Link) -> None:
    """MatMul of A and B; trans swaps the last two axes, transBatch puts the first behind the other batch axes."""
    link_matmul(node.x, node.input(1), node.y, link, places_a=_places(node, "A"), places_b=_places(node, "B"))


def _places(node: NodeView, name: str) -> list[int]:
    x = node.input("AB".index(name))
    return operand_axes(x.rank, node.attr(f"trans{name}", 0), node.attr(f"transBatch{name}", 0))


@fused_matmul.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, _places(node, "A")[-1]))


@rule("GemmFastGelu", domain=MICROSOFT)
def gemm_fast_gelu(node: NodeView, link: Link) -> None:
    """FastGelu of X [..., K] W [K, N] + bias [N]."""
    link_matmul(node.x, node.input(1), node.y, link)
    if (bias := node.optional(_BIAS)) is not None:
        broadcast(bias, node.y, link)


@gemm_fast_gelu.macs
def _(node: NodeView) -> Work:
    return work(every(node.y), (node.x, node.x.rank - 1))
