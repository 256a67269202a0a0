"""Write a pruned model: verified in ONNX Runtime before it appears under its name, and its plan with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from onnxprune.cli.options import Writing
from onnxprune.cli.session import Session
from onnxprune.errors import OutputError, RuntimeMissingError, SettingError

if TYPE_CHECKING:
    from onnx import NodeProto

    from onnxprune.cli.repairing import Repair
    from onnxprune.coupling.coupling import Coupling
    from onnxprune.edit import Edited
    from onnxprune.graph.layout import Layout
    from onnxprune.graph.model import Model
    from onnxprune.types import Plan

_NOTES = 5  # that are shown without -v


def check_settings(given: Writing) -> None:
    """Raise SettingError or RuntimeMissingError for what can be known before the model is read."""
    from onnxprune.graph.layout import Layout
    from onnxprune.runtime.ort import INSTALL

    if given.layout not in get_args(Layout):
        raise SettingError(f"--layout {given.layout}: unknown", remedy=f"give one of {', '.join(get_args(Layout))}")
    if not given.no_verify and find_spec("onnxruntime") is None:
        raise RuntimeMissingError(
            "ONNX Runtime is not installed, so the result cannot be verified",
            remedy=f"{INSTALL}; or pass --no-verify",
        )


def check_targets(model: Model, targets: Sequence[Path], sources: Sequence[Path] = ()) -> None:
    """Raise OutputError where a target cannot be written, or is the model, its data or one of `sources`."""
    from onnxprune.graph.io import check_output

    for target in targets:
        for source in sources:
            if target.exists() and target.samefile(source):
                raise OutputError(f"{target} is the input itself ({source})", remedy="choose another output")
        check_output(model, target)


def carry_out(
    here: Session,
    coupling: Coupling,
    plan: Plan,
    output: Path,
    given: Writing,
    beside: Mapping[str, bytes] | None = None,
    repair: Repair | None = None,
) -> dict[str, Any]:
    """Apply `plan`, `repair` the result, write it to `output` (and files `beside` it), print before and after.

    The file is verified before it takes its name: onnx's checker, then one run in ONNX Runtime. Gives what was done,
    for JSON.
    """
    from onnxprune.edit import carry
    from onnxprune.graph.io import save

    with here.step("Removing units"):
        edited = carry(coupling, plan)
    if repair is not None:
        edited = repair(edited)
        repair.show()
    checked: dict[str, Any] = {}

    def check(path: Path) -> None:
        checked.update(_verify(here, coupling, plan, path))

    with here.step(f"Writing {output}" + ("" if given.no_verify else " and verifying it in ONNX Runtime")):
        saved = save(
            edited.model,
            output,
            layout=cast("Layout", given.layout),
            check=None if given.no_verify else check,
            beside=beside,
        )
    found = {
        "output": str(saved.path),
        "data_files": [str(path) for path in saved.data_files],
        "bytes": {
            "before": bytes_of(coupling.view.model.source_files),
            "after": bytes_of([saved.path, *saved.data_files]),
        },
        "nodes": _nodes(coupling, edited),
        "notes": list(edited.notes),
        "verified": checked or None,
        **({} if repair is None else repair.as_json()),
    }
    _show(here, plan, found)
    return found


def _verify(here: Session, coupling: Coupling, plan: Plan, path: Path) -> dict[str, Any]:
    from onnxprune.check import new_complaints
    from onnxprune.edit.blocks import blocks_called
    from onnxprune.edit.prediction import Prediction
    from onnxprune.edit.selection import removed_classes_of
    from onnxprune.runtime.verify import verify_file

    new_complaints(coupling.view.model, path)
    prediction = Prediction(coupling, removed_classes_of(coupling, plan))
    gone = {i for block in blocks_called(coupling, plan.dropped) for i in block.nodes}
    left = {name for node in coupling.view.nodes if node.index not in gone for name in node.outputs}
    expected = {name: prediction.shape(name) for name in coupling.measured if name in left}
    inputs = {name: prediction.shape(name) for name in coupling.bindings.shapes}
    return verify_file(path, coupling.view.model.path, inputs, expected, here.options)


def bytes_of(paths: Sequence[Path]) -> int:
    """Bytes of the files that are there, each counted once."""
    return sum(path.stat().st_size for path in dict.fromkeys(paths) if path.exists())


def _nodes(coupling: Coupling, edited: Edited) -> dict[str, int]:
    """How many nodes there were and are, and how many are the same to the byte."""
    before = {_digest(node) for node in coupling.view.model.proto.graph.node}
    after = [_digest(node) for node in edited.model.proto.graph.node]
    return {
        "before": len(coupling.view.model.proto.graph.node),
        "after": len(after),
        "untouched": sum(node in before for node in after),
    }


def _digest(node: NodeProto) -> bytes:
    """Of all that a node says; the node itself may hold a large constant."""
    return blake2b(node.SerializeToString(deterministic=True), digest_size=16).digest()


def _show(here: Session, plan: Plan, found: dict[str, Any]) -> None:
    from onnxprune.cli.choosing import costs
    from onnxprune.cli.tables import before_after

    sizes, nodes = found["bytes"], found["nodes"]
    here.say(
        before_after({**costs(plan, predicted=False), "bytes": (sizes["before"], sizes["after"])}),
        f"{nodes['untouched']} of {nodes['before']} nodes untouched",
    )
    notes = found["notes"] if here.verbose else found["notes"][:_NOTES]
    for note in notes:
        here.say_plain(f"  {note}")
    if len(notes) < len(found["notes"]):
        here.say(f"  and {len(found['notes']) - len(notes)} further notes; -v shows all")
    checked = found["verified"]
    if checked is None:
        how = "not verified"
    elif checked["ran"]:
        how = f"verified in ONNX Runtime ({checked['providers'][0]})"
    else:
        how = (
            "loaded by ONNX Runtime, but not run, since the dense model does not run on made-up inputs either; "
            "bind its dimensions with --bind or --input-shapes"
        )
    here.say_plain(f"wrote {found['output']}, {how}")
