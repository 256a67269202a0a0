"""Structured pruning of ONNX files.

    import onnxprune

    coupling = onnxprune.analyse("model.onnx")
    plan = onnxprune.plan(coupling, onnxprune.score(coupling), onnxprune.Budget(max_macs=0.5))
    onnxprune.save(onnxprune.apply("model.onnx", plan, coupling), "smaller.onnx")

Importing this package loads nothing heavy: a public name is imported from its module when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxprune.analyse import analyse
    from onnxprune.check import mask_dense
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.edit.apply import apply
    from onnxprune.errors import (
        BudgetError,
        FloorError,
        ModelError,
        OnnxPruneError,
        OutputError,
        PlanError,
        RuntimeMissingError,
        SettingError,
        VerificationError,
    )
    from onnxprune.graph.io import load, save, to_graphsurgeon
    from onnxprune.graph.model import Model
    from onnxprune.importance.scores import Scores, score
    from onnxprune.plan.files import load_plan, save_plan
    from onnxprune.plan.planner import plan, plan_for
    from onnxprune.recover.job import Recovered
    from onnxprune.recover.module import to_torch
    from onnxprune.recover.recovery import recover
    from onnxprune.recover.writing import write_back
    from onnxprune.runtime.calibrate import calibrate
    from onnxprune.runtime.data import open_data
    from onnxprune.runtime.measure import measure_shapes
    from onnxprune.runtime.metrics.judge import Judge
    from onnxprune.runtime.metrics.registry import find_metric
    from onnxprune.runtime.metrics.verdict import Limits, Verdict, validate
    from onnxprune.runtime.statistics import Statistics
    from onnxprune.types import Axis, Budget, Cost, Group, GroupPlan, Plan, Refusal

__version__ = "0.1.0"

# public name -> the module that defines it; a new name goes here, above and in __all__
_EXPORTS = {
    "Axis": "onnxprune.types",
    "Budget": "onnxprune.types",
    "BudgetError": "onnxprune.errors",
    "Cost": "onnxprune.types",
    "Coupling": "onnxprune.coupling.coupling",
    "FloorError": "onnxprune.errors",
    "Group": "onnxprune.types",
    "GroupPlan": "onnxprune.types",
    "Judge": "onnxprune.runtime.metrics.judge",
    "Limits": "onnxprune.runtime.metrics.verdict",
    "Model": "onnxprune.graph.model",
    "ModelError": "onnxprune.errors",
    "OnnxPruneError": "onnxprune.errors",
    "OutputError": "onnxprune.errors",
    "Plan": "onnxprune.types",
    "PlanError": "onnxprune.errors",
    "Recovered": "onnxprune.recover.job",
    "Refusal": "onnxprune.types",
    "RuntimeMissingError": "onnxprune.errors",
    "Scores": "onnxprune.importance.scores",
    "SettingError": "onnxprune.errors",
    "Statistics": "onnxprune.runtime.statistics",
    "Verdict": "onnxprune.runtime.metrics.verdict",
    "VerificationError": "onnxprune.errors",
    "analyse": "onnxprune.analyse",
    "apply": "onnxprune.edit.apply",
    "calibrate": "onnxprune.runtime.calibrate",
    "find_metric": "onnxprune.runtime.metrics.registry",
    "load": "onnxprune.graph.io",
    "load_plan": "onnxprune.plan.files",
    "mask_dense": "onnxprune.check",
    "measure_shapes": "onnxprune.runtime.measure",
    "open_data": "onnxprune.runtime.data",
    "plan": "onnxprune.plan.planner",
    "plan_for": "onnxprune.plan.planner",
    "recover": "onnxprune.recover.recovery",
    "save": "onnxprune.graph.io",
    "save_plan": "onnxprune.plan.files",
    "score": "onnxprune.importance.scores",
    "to_graphsurgeon": "onnxprune.graph.io",
    "to_torch": "onnxprune.recover.module",
    "validate": "onnxprune.runtime.metrics.verdict",
    "write_back": "onnxprune.recover.writing",
}

__all__ = [
    "Axis",
    "Budget",
    "BudgetError",
    "Cost",
    "Coupling",
    "FloorError",
    "Group",
    "GroupPlan",
    "Judge",
    "Limits",
    "Model",
    "ModelError",
    "OnnxPruneError",
    "OutputError",
    "Plan",
    "PlanError",
    "Recovered",
    "Refusal",
    "RuntimeMissingError",
    "Scores",
    "SettingError",
    "Statistics",
    "Verdict",
    "VerificationError",
    "__version__",
    "analyse",
    "apply",
    "calibrate",
    "find_metric",
    "load",
    "load_plan",
    "mask_dense",
    "measure_shapes",
    "open_data",
    "plan",
    "plan_for",
    "recover",
    "save",
    "save_plan",
    "score",
    "to_graphsurgeon",
    "to_torch",
    "validate",
    "write_back",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `onnxprune.plan` the function, though a module of that name exists.

    Importing a submodule binds it as an attribute of its package, and would hide the public function
    (`analyse`, `plan`) once anything imported the module. `from onnxprune.plan import Plan` still works.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _EXPORTS and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
