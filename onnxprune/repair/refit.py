"""Re-fit what is left of a model to the dense one, layer by layer in graph order, from forward passes alone.

Every layer is fitted on what it reads in the pruned model, where the layers before it are repaired already, and to
what it gives in the dense one, less what a shortcut adds to it in the pruned one: so later layers make up for what is
left of the errors of earlier ones. Then layers with a Relu or Clip between them are fitted together. Statistics of
BatchNormalization nodes move as those of their inputs do. Weights change, and nothing else.

    edited = carry(coupling, plan)
    repaired = refit(coupling, plan, edited, data)
    save(repaired.edited.model, "small.onnx")

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168, fit layer by
layer to the dense outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.apply import Edited
from onnxprune.edit.blocks import blocks_called
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.rearrange import rearrange
from onnxprune.edit.selection import orders_of, removed_classes_of
from onnxprune.errors import SettingError
from onnxprune.graph.view import GraphView
from onnxprune.repair.batch_norm import BatchNormRepair, batch_norms
from onnxprune.repair.layer import LayerRepair, Refit
from onnxprune.repair.passes import DENSE, PRUNED, Pruned, batch_for
from onnxprune.repair.places import places
from onnxprune.repair.sections import Section
from onnxprune.repair.together import Joined, Progress, fit_sections, sections_left
from onnxprune.runtime.consumers import Source, consumers_of
from onnxprune.runtime.data import Data
from onnxprune.runtime.ort import RunOptions
from onnxprune.runtime.rows import Sampling
from onnxprune.runtime.stream import stream
from onnxprune.types import Plan

log = logging.getLogger(__name__)

POSITIONS = 256
"""Places that each sample adds to a layer's rows, unless told otherwise."""
_TOO_FEW = 8  # samples


@dataclass(frozen=True)
class Repaired:
    """What `edited` became with other weights, and what was done to each layer."""

    edited: Edited
    layers: tuple[Refit, ...]
    sections: tuple[Joined, ...] = ()


def refit(
    coupling: Coupling,
    plan: Plan,
    edited: Edited,
    data: Data,
    *,
    positions: int | None = POSITIONS,
    seed: int = 0,
    mask: str | None = None,
    batch: int | None = None,
    together: bool = True,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Re-fit every layer from the first one on that has lost inputs, where that helps on samples held back.

    Then, if `together`, the layers of each section at once (repair/together.py), and those behind all of them again.

    `edited` is what carrying out `plan` made of the coupling's model. `positions` limits the places that each sample
    adds, drawn with `seed`; for `mask` and `batch` see `calibrate`. An eighth of the batches is held back to choose
    each layer's ridge, or to leave it as it is (repair/fit.py).

    Raises SettingError for too few samples, and what `stream` raises it for; ModelError where an activation is NaN or
    infinite.
    """
    _check_enough(data, data.samples)
    prediction = Prediction(coupling, removed_classes_of(coupling, plan))
    if (orders := orders_of(coupling, plan)) is not None:
        # the same function, with the members of blocks in the order in which the plan counts them
        coupling = replace(coupling, view=GraphView(rearrange(coupling, orders), coupling.view))
    pruned = replace(edited, model=edited.model.copy())
    view = GraphView(pruned.model, coupling.view)
    here = Pruned(view, prediction, {block.exit: block.entry for block in blocks_called(coupling, plan.dropped)})
    todo = _affected(coupling, here, Sampling(positions, seed))
    batch = batch_for(data, batch)
    due = sections_left(coupling, here, min(repair.node for repair in todo)) if together and todo else []
    tail = _behind(due, todo)
    told = partial(_tell, progress, len(todo) + len(due) + len(tail))

    def alone(repairs: Sequence[LayerRepair | BatchNormRepair], before: int) -> Iterator[Refit]:
        for number, repair in enumerate(repairs):
            told(before, number)
            seen = stream(
                {DENSE: coupling.view, PRUNED: view}, [repair], data,
                batch=batch, options=options, mask=mask, dtypes=coupling.shapes.dtype,
            )  # fmt: skip
            _check_enough(data, seen)
            found = repair.finish()
            log.debug("%s", found)
            yield found

    done = list(alone(todo, 0))
    joined = fit_sections(
        coupling, here, due, data,
        batch=batch, seed=seed, mask=mask, options=options, progress=partial(told, len(todo)),
    )  # fmt: skip
    again = alone([todo[number] for number in tail], len(todo) + len(due))
    for number, refitted in zip(tail, again, strict=True):
        before = done[number]
        done[number] = replace(refitted, before=before.before, changed=before.changed or refitted.changed)
    return Repaired(pruned, tuple(done), joined)


def _behind(sections: Sequence[Section], repairs: Sequence[LayerRepair | BatchNormRepair]) -> list[int]:
    """Which are layers behind all sections, fitted to what these gave before: a classifier, say."""
    last = max((section.last.consumer.node for section in sections), default=None)
    if last is None:
        return []
    return [n for n, repair in enumerate(repairs) if isinstance(repair, LayerRepair) and repair.node > last]


def _tell(progress: Progress | None, total: int, before: int, done: int, _: int = 0) -> None:
    if progress is not None:
        progress(before + done, total)


def _affected(coupling: Coupling, pruned: Pruned, sampling: Sampling) -> list[LayerRepair | BatchNormRepair]:
    """What can be repaired, in graph order, from the first node on that reads what has changed."""
    consumers, made = consumers_of(coupling), pruned.view.producer
    changed = [consumer.node for consumer in consumers if _has_lost(pruned, consumer.source)]
    changed += [node.index for node in coupling.view.nodes if node.outputs and node.outputs[0] not in made]
    if not changed:
        return []
    layers = [
        LayerRepair(coupling, pruned, place, sampling) for place in places(coupling, consumers) if place.output in made
    ]
    norms = [BatchNormRepair(coupling, pruned, node) for node in batch_norms(coupling) if node.outputs[0] in made]
    repairs: list[LayerRepair | BatchNormRepair] = [*layers, *norms]
    return sorted((r for r in repairs if r.node >= min(changed)), key=lambda repair: repair.node)


def _has_lost(pruned: Pruned, source: Source) -> bool:
    return pruned.prediction.length((source.tensor, -1, -1), source.axis, source.size) < source.size


def _check_enough(data: Data, samples: int | None) -> None:
    if samples is not None and samples < _TOO_FEW:
        raise SettingError(
            f"{data.origin}: {samples} samples are too few to re-fit weights to",
            remedy=f"give at least {_TOO_FEW}, better some hundred, or --no-repair",
        )
