"""A model with further values as outputs: what flows through it, beside what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.runtime.fixed import fixed_value
from onnxprune.runtime.ort import RunOptions, make_session, run


def exposing(model: Model, names: Iterable[str], wide: Iterable[str] = (), *, only: bool = False) -> bytes:
    """The model serialized, with the values `names` as outputs; their types are left to ONNX Runtime.

    Those in `wide` come as float32 under another name (see `widened`): numpy has no bfloat16. With `only`, the model's
    own outputs go, and the nodes that none of `names` needs: ONNX Runtime would run them all the same.
    """
    proto = model.to_proto()
    names = list(names)
    if only:
        _cut(proto.graph, names)
    there = {o.name for o in proto.graph.output}
    wide = set(wide)
    for name in names:
        if name in wide:
            proto.graph.node.append(helper.make_node("Cast", [name], [widened(name)], to=TensorProto.FLOAT))
            proto.graph.output.append(ValueInfoProto(name=widened(name)))
        elif name not in there:
            proto.graph.output.append(ValueInfoProto(name=name))
    content: bytes = proto.SerializeToString()
    return content


def _cut(graph: GraphProto, wanted: Iterable[str]) -> None:
    """Remove the outputs, and the nodes that make none of the values `wanted` nor anything that these need.

    Some converters leave nodes out of order: every node is found from those that read it.
    """
    del graph.output[:]
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    kept: set[int] = set()
    pending = [*wanted]
    while pending:
        index = makers.get(pending.pop())
        if index is not None and index not in kept:
            kept.add(index)
            pending += [*graph.node[index].input, *read_inside(graph.node[index])]
    nodes = [NodeProto.FromString(graph.node[index].SerializeToString()) for index in sorted(kept)]
    del graph.node[:]
    graph.node.extend(nodes)


def read_inside(node: NodeProto) -> Iterator[str]:
    """Names that the node's bodies read; some are their own, which no node around them makes."""
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            yield from (output.name for output in body.output)
            for inner in body.node:
                yield from inner.input
                yield from read_inside(inner)


def data_folder(model: Model) -> Path | None:
    """Where the model's external data lies, None for a model without a file."""
    return None if model.path is None else model.path.parent.resolve()


def widened(name: str) -> str:
    """What the float32 copy of a value is called."""
    return f"{name}::float32"


class Tap:
    """Runs a model, and gives the values `names`: inputs, stored values, and what nodes of the main graph make.

    `names` of the result are in the order of the graph. `dtypes` are element types where they are known. Raises
    SettingError for a name that the model does not have.
    """

    def __init__(
        self,
        view: GraphView,
        names: Iterable[str],
        options: RunOptions | None = None,
        dtypes: Mapping[str, int] | None = None,
    ) -> None:
        wanted = set(names)
        made = [o for node in view.graph.node for o in node.output if o in wanted]
        self._fed = [name for name in view.inputs if name in wanted]
        self._fixed: dict[str, np.ndarray] = {}
        for name in sorted(wanted & view.fixed):
            value = fixed_value(view, name)
            if value is not None:
                self._fixed[name] = value
        self._made = [name for name in made if name not in self._fixed]
        unknown = sorted(wanted - {*self._fed, *self._fixed, *self._made})
        if unknown:
            raise SettingError(f"the model has no value {unknown[0]!r}", remedy="`onnxprune inspect -v` lists names")
        wide = {name for name in self._made if (dtypes or {}).get(name) == TensorProto.BFLOAT16}
        self._outputs = [widened(name) if name in wide else name for name in self._made]
        self._session: Any = None
        if self._made:
            content = exposing(view.model, self._made, wide, only=True)
            self._session = make_session(content, options or RunOptions(), folder=data_folder(view.model))
        self._inputs = set(view.inputs)

    def values(self, feeds: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """The values by name for one batch. `where` says which samples these are, for messages.

        Raises ModelError where the model does not run, or where a value holds NaN or infinity.
        """
        mine = {name: array for name, array in feeds.items() if name in self._inputs}
        for name, array in mine.items():  # a mask may be fed with infinities, but nothing with NaN
            check_finite(name, array, f"{where} give", "check the data", infinity=name in self._fed)
        found = {name: np.asarray(mine[name]) for name in self._fed}
        made = run(self._session, self._outputs, mine) if self._outputs else []
        for name, array in zip(self._made, made, strict=True):
            check_finite(
                name, array, f"{where} make",
                "check the data's preprocessing; in float16, what is larger than 65504 overflows",
            )  # fmt: skip
            found[name] = array
        return {**self._fixed, **found}


def check_finite(name: str, array: np.ndarray, who: str, remedy: str, *, infinity: bool = True) -> None:
    """Raise ModelError where a value holds NaN, or infinity if that is looked for; `who` makes it."""
    if array.dtype.kind not in "fV" or np.isfinite(array).all():
        return
    is_nan = bool(np.isnan(array).any())
    if is_nan or infinity:
        what = "NaN" if is_nan else "infinity"
        raise ModelError(f"{who} {what} in the tensor {name!r}", remedy=remedy)
