"""Make up for removed units from statistics alone: the closed form behind Optimal Brain Surgeon, no model is run.

A layer that gives x W + b and loses inputs gets the weights of what is left that give nearly the same, by the second
moments of x as they were measured before: W' = (H_kk)⁻¹ H_k W, and the bias for what the mean of x leaves. With
statistics of other samples the ridge that does best on these is added to H: where there are few rows for a layer's
width, plain least squares promise more than they keep. Good for one group at a time; where many layers change, each
reads something else than was measured, and `refit` is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.coupling.coupling import Coupling
from onnxprune.edit.prediction import Prediction
from onnxprune.edit.stored import put_array
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.repair.fit import DEAD
from onnxprune.repair.places import Place, places
from onnxprune.runtime.consumers import Consumer
from onnxprune.runtime.statistics import Gram, Statistics

RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Shares of the rows' mean square."""


class Compensator:
    """Compensates models that were cut out of the coupling's; `statistics` of it have the kind gram.

    `held` are statistics of other samples, to choose ridges by; without them none is added.
    """

    def __init__(self, coupling: Coupling, statistics: Statistics, held: Statistics | None = None) -> None:
        self._coupling, self._statistics, self._held = coupling, statistics, held
        self._places = places(coupling, statistics.consumers)

    def __call__(self, pruned: Model, removed: np.ndarray) -> None:
        """Adjust, in place, what is left of the model once the classes `removed` (bool, one per class) are gone."""
        view = GraphView(pruned, self._coupling.view)
        prediction = Prediction(self._coupling, removed)
        compensate(self._coupling, view, prediction, self._places, self._statistics, self._held)


def compensate(
    coupling: Coupling, pruned: GraphView, prediction: Prediction, layers: Sequence[Place], statistics: Statistics,
    held: Statistics | None = None,
) -> None:  # fmt: skip
    """Adjust the layers of `pruned` (the coupling's model, cut as predicted) that have lost inputs, in place."""
    for place in layers:
        consumer = place.consumer
        columns = kept_columns(coupling, prediction.removed, consumer)
        if consumer.groups > 1 or len(columns) == consumer.features:
            continue
        model, constants = coupling.view.model, coupling.view.constants
        dense = consumer.matrix(model.array(constants[place.weight]).astype(np.float64))[0]
        output_slot = coupling.atoms.slot_at((place.output, -1, -1), place.axis)
        if output_slot is not None:
            dense = dense[:, coupling.kept_of_slot(output_slot, prediction.removed)]
        others = None if held is None else held.gram(consumer)
        fresh, missing = made_up_for(
            statistics.gram(consumer), others, columns, dense, centred=place.free_bias is not None
        )
        stored = pruned.model.array(pruned.constants[place.weight])
        put_array(pruned, place.weight, consumer.from_matrix(fresh[None], stored))
        if place.free_bias is not None:
            old = pruned.model.array(pruned.constants[place.free_bias.name])
            added = (consumer.gain * missing / place.free_bias.factor).reshape(old.shape)
            put_array(pruned, place.free_bias.name, (old.astype(np.float64) + added).astype(old.dtype))


def kept_columns(coupling: Coupling, removed: np.ndarray, consumer: Consumer) -> np.ndarray:
    """Which columns (int64) of the consumer's rows are left once the classes `removed` are gone."""
    source = consumer.source
    slot = coupling.atoms.slot_at((source.tensor, -1, -1), source.axis)
    if slot is None:
        return np.arange(consumer.features)
    taps = consumer.features // max(source.size, 1)
    return np.asarray((coupling.kept_of_slot(slot, removed)[:, None] * taps + np.arange(taps)).reshape(-1))


def made_up_for(
    fitted: Gram, held: Gram | None, columns: np.ndarray, dense: np.ndarray, *, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The weights for `columns` of the rows that come nearest to what `dense` [D, K] gives, and what the mean leaves.

    Float64 [columns, K] and [K]. Their products are those of `fitted`, around the mean if `centred`; the ridge is the
    one that does best on `held`, and without that none but what makes them fit to be inverted.
    """
    if held is None:
        moments = fitted.conditioned(0, centred=centred)
        fresh = np.linalg.solve(moments[np.ix_(columns, columns)], moments[columns] @ dense)
    else:
        fresh = _judged(fitted, held, columns, dense, centred)
    return fresh, np.asarray(fitted.mean[0] @ dense - fitted.mean[0, columns] @ fresh)


def _judged(fitted: Gram, held: Gram, columns: np.ndarray, dense: np.ndarray, centred: bool) -> np.ndarray:
    moments = fitted.covariance[0] if centred else fitted.second[0]
    judge = held.covariance[0] if centred else held.second[0]
    shift = held.mean[0] - fitted.mean[0] if centred else np.zeros(len(judge))  # the bias fits the means of `fitted`
    gone = np.setdiff1d(np.arange(len(moments)), columns)
    level = float(np.diag(moments)[columns].mean())
    level = level if level > DEAD else 1.0
    missing = moments[np.ix_(columns, gone)] @ dense[gone]
    change = np.empty_like(dense)
    change[gone] = -dense[gone]
    least, best = np.inf, dense[columns]
    for ridge in RIDGES:
        damped = moments[np.ix_(columns, columns)]
        damped[np.diag_indices_from(damped)] += ridge * level
        change[columns] = np.linalg.solve(damped, missing)
        error = float(np.vdot(change, judge @ change) + ((shift @ change) ** 2).sum())
        if error < least:
            least, best = error, dense[columns] + change[columns]
    return np.asarray(best)
