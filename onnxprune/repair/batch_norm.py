"""Running statistics of BatchNormalization follow what its input has become.

The dense model's own running statistics were taken on other data than is at hand, so they are not replaced: they move
by as much as the measured mean and variance differ between the two models.
"""

from __future__ import annotations

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.stored import put_array
from onnxprune.graph.view import Node
from onnxprune.repair.layer import Refit
from onnxprune.repair.passes import DENSE, PRUNED, Pruned
from onnxprune.repair.places import is_own
from onnxprune.runtime.consumers import Source
from onnxprune.runtime.data import Batch
from onnxprune.runtime.moments import ChannelSums
from onnxprune.runtime.rows import Named, Tokens

_MEAN, _VARIANCE = 3, 4  # positions of its inputs
_KINDS = ("mean", "second")


def batch_norms(coupling: Coupling) -> list[Node]:
    """Nodes in inference form whose statistics are stored for them alone."""
    view, shapes = coupling.view, coupling.shapes.shape
    return [
        node
        for node in view.nodes
        if node.op == "BatchNormalization"
        and node.domain == ""
        and node.scope.is_main
        and not node.attrs.get("training_mode", 0)
        and node.inputs[0] in shapes
        and node.inputs[0] not in view.fixed
        and all(is_own(view, view.identity_source(node.inputs[at]), node) for at in (_MEAN, _VARIANCE))
    ]


class BatchNormRepair:
    """An Accumulator (runtime/moments.py) of a node's input in both models; `finish` moves its statistics."""

    def __init__(self, coupling: Coupling, pruned: Pruned, node: Node) -> None:
        self._pruned, self._title = pruned.view, node.title
        self.node = node.index
        tensor = node.inputs[0]
        shape = coupling.shapes.shape[tensor]
        slot = coupling.atoms.slot_at((tensor, -1, -1), 1)
        self._kept = np.arange(shape[1]) if slot is None else coupling.kept_of_slot(slot, pruned.prediction.removed)
        dtype = coupling.shapes.dtype.get(tensor, 1)
        self._dense = ChannelSums(Source(tensor, 1, shape[1], dtype), _KINDS, DENSE)
        self._now = ChannelSums(Source(pruned.called(tensor), 1, len(self._kept), dtype), _KINDS, PRUNED)
        self._names = [coupling.view.identity_source(node.inputs[at]) for at in (_MEAN, _VARIANCE)]

    @property
    def reads(self) -> list[tuple[str, str]]:
        """See Accumulator."""
        return [*self._dense.reads, *self._now.reads]

    @property
    def nbytes(self) -> int:
        """See Accumulator."""
        return self._dense.nbytes + self._now.nbytes

    def add(self, values: Named, batch: Batch, tokens: Tokens | None) -> None:
        """See Accumulator."""
        self._dense.add(values, batch, tokens)
        self._now.add(values, batch, tokens)

    def finish(self) -> Refit:
        """Move the running mean and variance."""
        was, now = self._dense.result(), self._now.result()
        was_mean, was_variance = was["mean"][self._kept], _variance(was)[self._kept]
        variance = _variance(now)
        mean, running = (self._pruned.model.array(self._pruned.constants[name]) for name in self._names)
        varies = was_variance > 0
        spread = np.where(varies, was_variance, 1.0)
        before = ((now["mean"] - was_mean) ** 2 / spread)[varies].sum() / max(len(spread), 1)
        factor = np.where(varies & (variance > 0), variance / spread, 1.0)
        put_array(self._pruned, self._names[0], (mean + now["mean"] - was_mean).astype(mean.dtype))
        put_array(self._pruned, self._names[1], (running * factor).astype(running.dtype))
        return Refit(self._title, float(before), 0.0, changed=True, is_norm=True)


def _variance(sums: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.maximum(sums["second"] - sums["mean"] ** 2, 0))
