"""By which metric training is judged unless the user names one."""

from __future__ import annotations

from onnxprune.graph.view import GraphView

_BY_LOSS = {"cross_entropy": "top1", "mse": "mse"}


def default_metric(view: GraphView, loss: str, *, labels: bool, teacher: bool) -> str | None:
    """The metric that goes with what is learnt: with `labels` that of the loss, else likeness to the teacher.

    None where neither says one.
    """
    if labels and loss in _BY_LOSS:
        return _BY_LOSS[loss]
    if not teacher:
        return None
    return "agreement" if _has_classes(view) else "snr"


def _has_classes(view: GraphView) -> bool:
    """Whether the first output is rows of scores, as far as the file says."""
    dims = next(iter(view.outputs.values())).type.tensor_type.shape.dim
    return len(dims) == 2 and dims[1].dim_value != 1
