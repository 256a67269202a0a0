"""Repair on the command line: re-fit what is left to the dense model, where there is data for it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxprune.cli.calibration import Calibrating
from onnxprune.cli.progress import samples_bar
from onnxprune.cli.session import Session
from onnxprune.errors import SettingError

if TYPE_CHECKING:
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.edit import Edited
    from onnxprune.repair.layer import Refit
    from onnxprune.repair.together import Joined
    from onnxprune.runtime.data import Data
    from onnxprune.types import Plan


@dataclass(frozen=True)
class Repairing:
    """Whether weights are adjusted."""

    repair: Annotated[
        bool | None,
        typer.Option(
            "--repair/--no-repair",
            rich_help_panel="Repair",
            help="Re-fit the weights that are left to the dense model, on --data.  [default: if there is any]",
        ),
    ] = None
    together: Annotated[
        bool,
        typer.Option(
            "--together/--no-together",
            rich_help_panel="Repair",
            help="Then fit the layers of whole blocks together; takes as long again, or longer.",
        ),
    ] = True


@dataclass
class Repair:
    """Re-fits what carrying out a plan made, and remembers what it did."""

    here: Session
    coupling: Coupling
    plan: Plan
    data: Data
    given: Calibrating
    together: bool = True
    layers: tuple[Refit, ...] = ()
    sections: tuple[Joined, ...] = ()

    def __call__(self, edited: Edited) -> Edited:
        """The same with other weights."""
        from onnxprune.repair.refit import refit

        with samples_bar(self.here, "Re-fitting layers", None) as progress:
            repaired = refit(
                self.coupling, self.plan, edited, self.data,
                seed=self.here.seed, mask=self.given.mask_input, batch=self.given.batch,
                together=self.together, options=self.here.options, progress=progress,
            )  # fmt: skip
        self.layers, self.sections = repaired.layers, repaired.sections
        return repaired.edited

    def show(self) -> None:
        """Say what was done: one line, and with -v a table by layer."""
        from onnxprune.cli.tables import repair_table, section_table, together

        layers = [layer for layer in self.layers if not layer.is_norm]
        norms = len(self.layers) - len(layers)
        fitted = [layer for layer in layers if layer.changed]
        if norms:
            self.here.say_plain(f"moved the statistics of {norms} BatchNormalizations")
        if not fitted:
            self.here.say_plain("no layer was better after re-fitting: weights are as they were")
            return
        before, after = median(layer.before for layer in fitted), median(layer.after for layer in fitted)
        self.here.say_plain(
            f"re-fitted {len(fitted)} of {len(layers)} layers on {self.data.origin}; "
            f"the error of their outputs, on samples held back: {before:.1%} before, {after:.1%} after (median)"
        )
        joined = [section for section in self.sections if section.changed]
        if joined:
            self.here.say_plain(together(joined))
        if self.here.verbose:
            self.here.say(repair_table(layers))
            self.here.say(section_table(self.sections))

    def as_json(self) -> dict[str, Any]:
        """What was done to each layer, for a machine."""
        rows = [
            {"layer": x.layer, "changed": x.changed, "error_before": x.before, "error_after": x.after}
            for x in self.layers
        ]
        joined = [
            {"layers": x.title, "changed": x.changed, "error_before": x.before, "error_after": x.after}
            for x in self.sections
        ]
        return {"repair": rows, "fitted_together": joined}


def repair_for(
    here: Session, coupling: Coupling, plan: Plan, data: Data | None, repairing: Repairing, given: Calibrating
) -> Repair | None:
    """What repairs the result of `plan`; None where that is not wanted. Raises SettingError where it cannot be done."""
    if repairing.repair and data is None:
        raise SettingError("--repair needs samples to fit to", remedy="give --data")
    if data is None or repairing.repair is False or (plan.is_empty and not plan.dropped):
        return None
    return Repair(here, coupling, plan, data, given, repairing.together)
