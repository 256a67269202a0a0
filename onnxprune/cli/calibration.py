"""Data on the command line: what `plan` and `prune` measure activations on, for the criteria that look at them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxprune.cli.options import Preprocess
from onnxprune.cli.progress import samples_bar
from onnxprune.cli.session import Session
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.runtime.data import Data
    from onnxprune.runtime.gradients import Gradients

_DATA, _CHOICE = "Data", "Choosing"
_HELD = 1 << 30  # bytes of samples that are kept in memory


@dataclass(frozen=True)
class Judging:
    """How scores of units are put together and compared."""

    aggregate: Annotated[
        str,
        typer.Option(
            rich_help_panel=_CHOICE, metavar="NAME", help="What a unit has at several places: sum, mean or max."
        ),
    ] = "sum"
    normalise: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_CHOICE,
            metavar="NAME",
            help="mean: scores by their group's mean; none: as they are.  [default: as the criterion is meant]",
        ),
    ] = None


@dataclass(frozen=True)
class Calibrating:
    """What activations are measured on."""

    data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_DATA,
            metavar="DATA",
            help="Samples: a .npz, a folder or zip of .npz or images, or script.py:function. No labels needed.",
        ),
    ] = None
    preprocess: Preprocess = None
    samples: Annotated[
        int, typer.Option(rich_help_panel=_DATA, min=1, metavar="N", help="Samples to use, drawn with --seed.")
    ] = 256
    mask_input: Annotated[
        str | None,
        typer.Option(rich_help_panel=_DATA, metavar="NAME", help="Input that is 0 where a token is padding."),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(rich_help_panel=_DATA, min=1, metavar="N", help="Samples at a time.  [default: by memory]"),
    ] = None
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_DATA,
            metavar="DIR",
            help="Where what was measured is kept.  [default: the platform's cache]",
        ),
    ] = None
    no_cache: Annotated[
        bool, typer.Option("--no-cache", rich_help_panel=_DATA, help="Keep nothing that was measured, and use nothing.")
    ] = False


def cache_folder(given: Calibrating) -> Path | None:
    """Where results are kept that took long, None for nowhere."""
    from onnxprune.runtime.cache import default_folder

    return None if given.no_cache else given.cache_dir or default_folder()


def influence(here: Session, coupling: Coupling, given: Calibrating, data: Data | None) -> dict[str, float]:
    """How far each residual block turns what passes it, measured on the data or on made-up inputs."""
    from onnxprune.runtime.influence import block_influence

    with samples_bar(here, "Looking at blocks", None if data is None else data.samples) as progress:
        found = block_influence(
            coupling, data, seed=here.seed, mask=given.mask_input, batch=given.batch, options=here.options,
            progress=progress,
        )  # fmt: skip
    if data is None:
        here.warn("without --data, blocks to drop are chosen by what they do to made-up inputs, which says little")
    return found


def open_given(here: Session, coupling: Coupling, given: Calibrating) -> Data | None:
    """The data that was given, None where none was. Raises SettingError for data that cannot be used."""
    from onnxprune.runtime.data import open_data

    if given.data is None:
        if given.preprocess is not None:
            raise SettingError("--preprocess says how images are read, and there are none", remedy="give --data")
        return None
    data = open_data(given.data, coupling.view, preprocess=given.preprocess, samples=given.samples, seed=here.seed)
    data.hold(_HELD)  # choosing and repairing go through it many times
    return data


def needs_of(criterion: str) -> list[str]:
    """The kinds of statistics that a criterion needs. Raises SettingError where there is no such criterion."""
    from onnxprune.importance.gradients import GRADIENTS
    from onnxprune.importance.registry import find
    from onnxprune.importance.traits import traits_of
    from onnxprune.runtime.statistics import KINDS

    needs = traits_of(find(criterion)).needs
    return [kind for kind in (*KINDS, GRADIENTS) if kind in needs]


def measure(
    here: Session, coupling: Coupling, criterion: str, kinds: Collection[str], given: Calibrating, data: Data | None
) -> dict[str, Any]:
    """What `score` is given as data: the statistics of these kinds, and gradients if they are among them."""
    from onnxprune.importance.gradients import GRADIENTS
    from onnxprune.runtime.calibrate import calibrate

    found: dict[str, Any] = {}
    if GRADIENTS in kinds:
        found[GRADIENTS] = _gradients(here, coupling, criterion, data, given)
        kinds = [kind for kind in kinds if kind != GRADIENTS]
    if not kinds:
        return found
    with samples_bar(here, "Calibrating", None if data is None else data.samples) as progress:
        statistics = calibrate(
            coupling, data, kinds,
            seed=here.seed, mask=given.mask_input, batch=given.batch, options=here.options,
            cache=cache_folder(given), progress=progress,
        )  # fmt: skip
    what = "made-up inputs, as no --data was given" if statistics.synthetic else statistics.origin
    here.say_plain(f"activations measured on {statistics.samples} samples of {what}")
    return {**found, "statistics": statistics}


def _gradients(here: Session, coupling: Coupling, criterion: str, data: Data | None, given: Calibrating) -> Gradients:
    """Gradients of the loss on the data, with its labels where it has some."""
    if data is None:
        raise SettingError(f"the criterion {criterion} needs gradients, and so data", remedy="give --data DATA")
    from onnxprune.recover.gradients import gradients_of

    with samples_bar(here, "Differentiating", data.samples) as progress:
        found = gradients_of(coupling.view.model, data, batch=given.batch or 8, seed=here.seed, progress=progress)
    labels = "with their labels" if data.labels is not None else "without labels"
    here.say_plain(f"gradients computed on {found.samples} samples of {found.origin}, {labels}")
    return found
