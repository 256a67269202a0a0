"""From the options of `sparsify` to a sparse model: permutation, choice of zeros, repair."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onnxprune.cli.calibration import Calibrating
from onnxprune.cli.options import Analysis
from onnxprune.cli.progress import samples_bar
from onnxprune.cli.reading import read_bind, read_input_shapes
from onnxprune.cli.session import Session
from onnxprune.cli.sparsifying import Ways
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.graph.bindings import Bindings
    from onnxprune.graph.model import Model
    from onnxprune.graph.view import GraphView
    from onnxprune.repair.together import Joined
    from onnxprune.runtime.data import Data
    from onnxprune.sparsity.reorder import Moved
    from onnxprune.sparsity.sequential import Fitted
    from onnxprune.sparsity.wanted import Request, Target, Wanted

HELD = 1 << 30
"""Bytes of samples that are kept in memory."""


@dataclass(frozen=True)
class Sparse:
    """The sparse model, what it was made of, and what was done to it.

    `dense` is the model that weights were found in, in its new order if it was permuted.
    """

    source: Model
    dense: GraphView
    bindings: Bindings
    model: Model
    request: Request
    wanted: Wanted
    method: str
    repaired: bool
    fitted: tuple[Fitted, ...]
    sections: tuple[Joined, ...]
    moved: tuple[Moved, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "pattern": str(self.request.pattern), "method": self.method, "repaired": self.repaired,
            "layers": [
                {"weight": t.weight.name, "pattern": str(t.pattern), "sparsity": t.share} for t in self.wanted.targets
            ],
            "left": [{"weight": item.weight.name, "why": item.why} for item in self.wanted.left],
            "fitted": [asdict(item) for item in self.fitted],
            "fitted_together": [asdict(item) for item in self.sections],
            "permuted": [asdict(item) for item in self.moved],
            "notes": list(self.notes),
        }  # fmt: skip


def run(
    here: Session, loaded: Model, request: Request, ways: Ways, calibrating: Calibrating, analysis: Analysis
) -> Sparse:
    """Make `loaded` sparse. Raises SettingError for what does not fit together, before anything is computed."""
    from onnxprune.graph.bindings import bind_inputs
    from onnxprune.graph.view import GraphView
    from onnxprune.sparsity.choosing import METHODS
    from onnxprune.sparsity.wanted import settle
    from onnxprune.sparsity.weights import find_weights

    method = ways.method or ("fit" if calibrating.data is not None else "magnitude")
    if method not in METHODS:
        raise SettingError(f"--method {method}: unknown", remedy=f"give one of {', '.join(METHODS)}")
    repair = METHODS[method].aims if ways.repair is None else ways.repair
    if method == "fit" and not repair:
        raise SettingError("--no-repair: the method fit is a repair", remedy="give another --method")
    looks = bool(METHODS[method].needs) or repair
    if ways.together and not repair:
        raise SettingError("--together is a part of --repair", remedy="give --data and the method fit, or --repair")
    if looks and calibrating.data is None:
        what = f"--method {method}" if METHODS[method].needs else "--repair"
        raise SettingError(f"{what} looks at activations", remedy="give samples with --data; no labels are needed")
    if not ways.permute and not looks and calibrating.data is not None:
        here.warn(f"--data is not used: the method {method} looks at the weights alone")
    view = GraphView(loaded)
    bindings = bind_inputs(view, read_bind(analysis.bind), read_input_shapes(analysis.input_shapes))
    wanted = settle(view, find_weights(view), request)
    if not ways.permute and not looks:
        with here.step("Choosing zeros"):
            model = _masked(loaded, view, wanted)
        return Sparse(loaded, view, bindings, model, request, wanted, method, repair, (), (), (), ())
    coupling = here.analyse(loaded, analysis)
    data = _data(here, coupling, calibrating)
    moved: tuple[Moved, ...] = ()
    notes: tuple[str, ...] = ()
    if ways.permute:
        if not any((t.pattern.n, t.pattern.m) == (2, 4) for t in wanted.targets):
            raise SettingError("--permute: only 2:4 is searched for", remedy="leave it out, or give --pattern 2:4")
        coupling, moved, notes = _permuted(here, coupling, wanted, ways, calibrating, data)
        wanted = settle(coupling.view, find_weights(coupling.view), request)
    if data is None or not looks:
        model = _masked(coupling.view.model, coupling.view, wanted)
        fitted: tuple[Fitted, ...] = ()
        sections: tuple[Joined, ...] = ()
        more: tuple[str, ...] = ()
    else:
        model, fitted, more = _fitted(here, coupling, wanted, method, repair, ways, calibrating, data)
        sections = _together(here, coupling, wanted, model, calibrating, data) if repair and ways.together else ()
    return Sparse(
        loaded,
        coupling.view,
        bindings,
        model,
        request,
        wanted,
        method,
        repair,
        fitted,
        sections,
        moved,
        (*notes, *more),
    )


def _data(here: Session, coupling: Coupling, given: Calibrating) -> Data | None:
    from onnxprune.runtime.data import open_data

    if given.data is None:
        return None
    data = open_data(given.data, coupling.view, preprocess=given.preprocess, samples=given.samples, seed=here.seed)
    data.hold(HELD)
    return data


def _masked(dense: Model, view: GraphView, wanted: Wanted) -> Model:
    from onnxprune.graph.view import GraphView

    model = dense.copy(without=[name for t in wanted.targets for name in t.weight.leaves if name in view.initializers])
    changed = GraphView(model, view)
    for target in wanted.targets:
        _mask_one(changed, dense, view, target)
    return model


def _mask_one(changed: GraphView, dense: Model, view: GraphView, target: Target) -> None:
    from onnxprune.sparsity.masking import put_masked

    why = put_masked(changed, dense, view, target)
    if why:
        raise SettingError(f"{target.weight.name}: {why}", remedy="leave it out with --ignore")


def _permuted(
    here: Session, coupling: Coupling, wanted: Wanted, ways: Ways, given: Calibrating, data: Data | None
) -> tuple[Coupling, tuple[Moved, ...], tuple[str, ...]]:
    from onnxprune.sparsity.norms import norms_of
    from onnxprune.sparsity.reorder import reorder
    from onnxprune.sparsity.weights import find_weights

    norms = None
    if data is not None:
        from onnxprune.runtime.calibrate import calibrate

        with here.step("Measuring activations"):
            statistics = calibrate(
                coupling, data, ["second"], every=True, mask=given.mask_input, batch=given.batch, options=here.options
            )
        norms = norms_of(statistics, find_weights(coupling.view))
    with here.step("Searching for an order of channels"):
        found = reorder(coupling, wanted.targets, seconds=ways.permute_seconds, seed=here.seed, norms=norms)
    notes = [f"channels of {name} stay in their order: {why}" for name, why in found.stayed.items()]
    return here.analyse_with(found.model, coupling.options), found.moved, tuple(notes)


def _fitted(
    here: Session, coupling: Coupling, wanted: Wanted, method: str, repair: bool, ways: Ways, given: Calibrating,
    data: Data,
) -> tuple[Model, tuple[Fitted, ...], tuple[str, ...]]:  # fmt: skip
    """The layers by the method, whatever is no layer by magnitude."""
    from onnxprune.graph.view import GraphView
    from onnxprune.runtime.following import Following
    from onnxprune.sparsity.choosing import METHODS
    from onnxprune.sparsity.layers import find_layers
    from onnxprune.sparsity.sequential import sparsify_layers
    from onnxprune.sparsity.weights import find_weights

    layers = find_layers(coupling, find_weights(coupling.view))
    names = {layer.weight.name for layer in layers}
    targets = {t.weight.name: t for t in wanted.targets if t.weight.name in names}
    how = Following(data, here.options, ways.positions, here.seed, given.mask_input, given.batch)
    with samples_bar(here, "Layers", None) as progress:
        model, fitted = sparsify_layers(
            coupling, layers, targets, METHODS[method], how, repair=repair, damping=ways.damping, progress=progress
        )
    notes = []
    view = GraphView(model, coupling.view)
    for target in wanted.targets:
        if target.weight.name not in names:
            _mask_one(view, coupling.view.model, coupling.view, target)
            notes.append(f"{target.weight.name} by magnitude: its consumer is no plain product of real numbers")
    return model, tuple(fitted), tuple(notes)


def _together(
    here: Session, coupling: Coupling, wanted: Wanted, model: Model, given: Calibrating, data: Data
) -> tuple[Joined, ...]:
    """Layers with a Relu or Clip between them, fitted together; zeros stay."""
    from onnxprune.repair.together import fit_other_weights

    zeros = {leaf for target in wanted.targets for leaf in target.weight.leaves}
    with samples_bar(here, "Fitting layers together", None) as progress:
        return fit_other_weights(
            coupling,
            model,
            data,
            zeros,
            mask=given.mask_input,
            batch=given.batch,
            options=here.options,
            progress=progress,
        )
