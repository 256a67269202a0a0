"""Protos for tests: one with everything that ONNX can say, and where two of them differ, field by field."""

from __future__ import annotations

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

# field 999 of wire type 2: what a later version of ONNX may add, and this one must hand through
UNKNOWN = bytes([0xBA, 0x3E, 3]) + b"new"


def differences(first: Message, second: Message, where: str = "") -> list[str]:
    """Paths of the fields in which two messages differ, unknown fields and presence included."""
    if first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True):
        return []
    fields = {field.name: field for message in (first, second) for field, _ in message.ListFields()}
    found = []
    for name, field in fields.items():
        one, two = getattr(first, name), getattr(second, name)
        path = f"{where}.{name}"
        if field.message_type is None:
            if (list(one) != list(two)) if field.is_repeated else (one != two):
                found.append(path)
        elif field.is_repeated:
            if len(one) != len(two):
                found.append(f"{path}: {len(one)} and {len(two)}")
            for index, (a, b) in enumerate(zip(one, two, strict=False)):
                found += differences(a, b, f"{path}[{index}]")
        else:
            found += differences(one, two, path)
        if not field.is_repeated and first.HasField(name) != second.HasField(name):
            found.append(f"{path}: presence")
    return found or [f"{where}: unknown fields"]


def tensor(name: str, array: np.ndarray, **more: str) -> TensorProto:
    made = numpy_helper.from_array(array, name)
    for key, value in more.items():
        setattr(made, key, value)
    return made


def everything(seed: int = 0, *, width: int = 64) -> ModelProto:
    """A model with each feature that must pass through untouched; values and sizes drawn from `seed`."""
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    shape = [int(random.integers(1, 9)), width]
    tied = tensor("tied", weights(width, width), doc_string="used twice")
    tied.metadata_props.add(key="rank", value="7")
    initializers = [
        tied,
        tensor("raw", weights(*shape)),
        helper.make_tensor("typed", TensorProto.FLOAT, [3], [0.5, -1.0, float(random.random())]),
        helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.0, float(random.random())]),
        helper.make_tensor("text", TensorProto.STRING, [2], [b"caf\xc3\xa9", b"\xff\xfe"]),
        tensor("scalar", np.array(3, dtype=np.int64)),
        tensor("empty", np.zeros((0, 4), dtype=np.float32)),
        *(
            helper.make_tensor(f"type {name}", number, [5], [0, 1, 1, 0, 1])
            for name, number in TensorProto.DataType.items()
            if name not in ("UNDEFINED", "STRING", "COMPLEX64", "COMPLEX128")
        ),
        tensor("complex", np.array([1 + 2j], dtype=np.complex64)),
    ]
    initializers[1].MergeFromString(UNKNOWN)

    def branch(name: str, *values: float) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Add", ["a", "raw"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
            [
                tensor("a", np.array(values, dtype=np.float32)),
                tensor("raw", weights(1)),
            ],  # shadows the outer one
        )

    constant = helper.make_node("Constant", [], ["c"], value=tensor("c value", weights(4, width)))
    sparse_attribute = helper.make_node("Constant", [], ["s"], sparse_value=sparse(random, ""))
    nodes = [
        constant,
        sparse_attribute,
        helper.make_node("MatMul", ["x", "tied"], ["h"], name="first", doc_string="why"),
        helper.make_node("Gemm", ["h", "tied"], ["g"], name="second", transB=1),
        helper.make_node("twice", ["g"], ["y"], domain="local"),
        helper.make_node("If", ["flag"], ["z"], then_branch=branch("then", 1.0), else_branch=branch("else", 2.0, 3.0)),
    ]
    nodes[2].metadata_props.add(key="from", value="layer.1")
    graph = helper.make_graph(
        nodes,
        f"graph {seed}",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
        ],
        initializers,
        doc_string="the graph",
        value_info=[helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", width])],
        sparse_initializer=[sparse(random, "sparse")],
    )
    annotation = graph.quantization_annotation.add(tensor_name="h")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="typed")
    graph.metadata_props.add(key="graph key", value="graph value")
    graph.MergeFromString(UNKNOWN)
    function = helper.make_function(
        "local",
        "twice",
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["two"], value=tensor("two", np.array(2, dtype=np.float32))),
            helper.make_node("Mul", ["a", "two"], ["b"]),
        ],
        [helper.make_opsetid("", 21)],
    )
    model = helper.make_model(
        graph,
        producer_name="a test",
        producer_version=str(seed),
        domain="org.example",
        model_version=seed,
        doc_string="the model",
        functions=[function],
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("local", 1)],
    )
    training = model.training_info.add()
    training.initialization.name = "init"
    training.algorithm.initializer.append(tensor("step", weights(3)))
    helper.set_model_props(model, {"author": "me", "": "empty key"})
    model.MergeFromString(UNKNOWN)
    return model


def sparse(random: np.random.Generator, name: str) -> SparseTensorProto:
    values = random.standard_normal(3).astype(np.float32)
    indices = np.array([1, 5, 8], dtype=np.int64)
    return helper.make_sparse_tensor(tensor(name, values), tensor("", indices), [3, 3])


def tiny(width: int = 1024) -> ModelProto:
    """y = x @ w + b, weights embedded."""
    random = np.random.default_rng(0)
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
            [
                tensor("w", random.standard_normal((width, width)).astype(np.float32)),
                tensor("b", random.standard_normal(width).astype(np.float32)),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
