"""An import points to a lower floor, never up and never sideways between siblings (DESIGN.md, "Layout")."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "onnxprune"

FLOORS = [
    {"display", "errors", "types"},
    {"graph"},
    {"coupling"},
    {"ops"},
    {"analyse"},
    {"edit"},  # above analyse: a plan is applied to a model as it was analysed
    {"runtime"},
    {"importance", "sparsity", "repair", "recover"},
    {"plan", "check"},
    {"loop"},
    {"report"},
    {"cli"},
    {"", "__main__"},  # the package itself, which re-exports lazily
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
HEAVY = {"torch", "onnxruntime", "polygraphy", "onnx_graphsurgeon", "scipy", "tensorrt", "sklearn"}
HEAVY_FROM = 6  # floors that may load heavy libraries with the module; below they are imported on use
TORCH_HOME = "recover"


def imports(tree: ast.AST, package: str, *, at_load: bool = True) -> Iterator[tuple[str, int, bool]]:
    """Yield (absolute dotted name, line, whether it runs when the module is loaded).

    `from a import b` yields `a.b`, whether b is a module or not: the first two parts decide the floor.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, at_load
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno, at_load
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, package, at_load=False)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from imports(ast.Module([child], []), package, at_load=False)
            for child in node.orelse:
                yield from imports(ast.Module([child], []), package, at_load=at_load)
        else:
            yield from imports(node, package, at_load=at_load)


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What `module` (its dotted name) imports and may not."""
    own = module.split(".")[1] if "." in module else ""
    if own not in FLOOR:
        return [f"{module}: `{own}` has no floor; give it one in tests/test_layers.py"]
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for name, line, at_load in imports(ast.parse(source), package):
        top, *rest = name.split(".")
        where = f"{module}:{line} imports {name}"
        if top == "onnxprune" and rest != ["__version__"]:  # a constant, which every floor may read
            target = rest[0] if rest and rest[0] in FLOOR else ""
            if target == own:
                continue
            if target not in FLOOR or FLOOR[target] > FLOOR[own]:
                found.append(f"{where}: up, from floor {FLOOR[own]} to {FLOOR.get(target)}")
            elif FLOOR[target] == FLOOR[own] and FLOOR[own] > 0:
                found.append(f"{where}: sideways on floor {FLOOR[own]}")
        if top == "torch" and own != TORCH_HOME:
            found.append(f"{where}: torch belongs to {TORCH_HOME}/")
        elif top in HEAVY and at_load and FLOOR[own] < HEAVY_FROM:
            found.append(f"{where}: heavy, import it on use")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_imports_obey_the_floors(module: str, path: Path) -> None:
    assert violations(path.read_text(), module, is_package=path.stem == "__init__") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("onnxprune.graph.io", "from onnxprune.ops import conv", id="up"),
        pytest.param("onnxprune.graph.io", "import onnxprune.coupling.solve", id="up, plain import"),
        pytest.param("onnxprune.graph.io", "from ..cli import main", id="up, relative"),
        pytest.param("onnxprune.graph.io", "from .. import cli", id="up, relative package"),
        pytest.param("onnxprune.graph.io", "from onnxprune import load", id="up, through the facade"),
        pytest.param("onnxprune.graph.io", "def f():\n    from onnxprune.plan import plan", id="up, on use"),
        pytest.param("onnxprune.errors", "from onnxprune.graph.model import Model", id="up, from the ground"),
        pytest.param(
            "onnxprune.graph.io",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from onnxprune.analyse import x",
            id="up, for types only",
        ),
        pytest.param("onnxprune.importance.l2", "from onnxprune.repair import bias", id="sideways"),
        pytest.param("onnxprune.analyse", "from onnxprune.edit import cut", id="up, module to package"),
        pytest.param("onnxprune.check", "from onnxprune.plan import plan", id="sideways, module to package"),
        pytest.param("onnxprune.repair", "import onnxprune.recover.train", id="sideways, package to package"),
        pytest.param("onnxprune.coupling.solve", "from scipy.sparse import coo_array", id="heavy at load"),
        pytest.param("onnxprune.edit.cut", "try:\n    import onnxruntime\nexcept ImportError: ...", id="heavy in try"),
        pytest.param("onnxprune.runtime.ort", "def f():\n    import torch", id="torch outside recover"),
        pytest.param("onnxprune.utils", "", id="a module with no floor"),
    ],
)
def test_a_bad_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("onnxprune.graph.io", "from onnxprune.errors import ModelError\nimport numpy", id="down"),
        pytest.param("onnxprune.graph.io", "from onnxprune.graph.model import Model", id="same package"),
        pytest.param("onnxprune.graph.io", "from .model import Model", id="same package, relative"),
        pytest.param("onnxprune.edit.apply", "from onnxprune.analyse import analyse", id="down, package to module"),
        pytest.param("onnxprune.types", "from onnxprune.errors import PlanError", id="the two ground modules"),
        pytest.param("onnxprune.graph.io", "def f():\n    import onnx_graphsurgeon", id="heavy on use"),
        pytest.param("onnxprune.runtime.ort", "import onnxruntime", id="heavy on its floor"),
        pytest.param("onnxprune.recover.train", "import torch.nn", id="torch at home"),
        pytest.param("onnxprune.types", "from onnxprune import __version__", id="the version"),
    ],
)
def test_a_good_import_passes(module: str, source: str) -> None:
    assert violations(source, module) == []
