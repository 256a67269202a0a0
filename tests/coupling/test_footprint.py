"""What a model takes: literal figures of models that one can work out by hand."""

from __future__ import annotations

import numpy as np
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.coupling.footprint import Footprint
from onnxprune.edit import edit
from onnxprune.graph.size import file_bytes
from tests.support.models import make_model
from tests.support.planning import PIXELS, conv_chain


def halved(coupling) -> np.ndarray:
    return coupling.removed_classes({g.index: range(g.size // 2) for g in coupling.groups})


def test_macs_and_parameters() -> None:
    coupling = analyse(conv_chain((32, 16)))
    take = Footprint(coupling)
    dense, half = coupling.lengths(), coupling.lengths(halved(coupling))
    assert (take.parameters(dense), take.macs(dense)) == (96 + 512 + 80, PIXELS * 688)
    assert (take.parameters(half), take.macs(half)) == (48 + 128 + 40, PIXELS * 216)
    assert take.macs_by_work(half).tolist() == [PIXELS * 48, PIXELS * 128, PIXELS * 40]


def test_dropped_nodes_take_nothing_with_them() -> None:
    coupling = analyse(conv_chain((32, 16)))
    middle = next(node.index for node in coupling.view.nodes if node.title == "conv1")
    take = Footprint(coupling, [middle])
    assert (take.parameters(coupling.lengths()), take.macs(coupling.lengths())) == (96 + 80, PIXELS * 176)


def test_the_peak_of_activations_is_what_lives_at_once() -> None:
    """x 3, c0 and r0 32, c1 and r1 16, y 5 channels of 64 pixels in float32."""
    coupling = analyse(conv_chain((32, 16)))
    take = Footprint(coupling)
    assert take.activations(coupling.lengths()) == 4 * PIXELS * (32 + 32)  # relu0: c0 and r0
    assert take.activations(coupling.lengths(halved(coupling))) == 4 * PIXELS * (16 + 16)


def test_a_shortcut_lives_until_it_is_added_and_views_take_nothing() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),  # 4 rows of 8
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["c"]),  # 8, then 24 wide
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "u"], ["e"]),
        helper.make_node("Add", ["e", "b"], ["y"]),
    ]
    shape = np.array([1, 4, 8], np.int64)
    weights = {"w": (8, 8), "v": (8, 24), "u": (24, 8), "shape": shape}
    coupling = analyse(make_model(nodes, {"x": (4, 8)}, ["y"], weights))
    assert Footprint(coupling).activations(coupling.lengths()) == 4 * 4 * (8 + 24 + 24)  # a, c and d at the Relu


def test_the_pressure_falls_with_either_of_two_equal_peaks() -> None:
    coupling = analyse(conv_chain((16, 4, 16)))
    take = Footprint(coupling)
    first, second = coupling.groups[0], coupling.groups[2]

    def with_half(*groups) -> np.ndarray:
        return coupling.lengths(coupling.removed_classes({g.index: range(g.size // 2) for g in groups}))

    dense = coupling.lengths()
    assert take.activations(with_half(first)) == take.activations(dense)
    assert take.pressure(with_half(first)) < take.pressure(dense)
    assert take.pressure(with_half(first, second)) < take.pressure(with_half(first))


def test_file_bytes_are_those_of_the_file(tmp_path) -> None:
    import onnx

    from onnxprune.graph.io import save

    for external in (False, True):
        path = tmp_path / f"dense{external}.onnx"
        onnx.save(conv_chain((64, 64)), path, save_as_external_data=external, size_threshold=0)
        coupling = analyse(path)
        dense = sum(p.stat().st_size for p in coupling.view.model.source_files)
        assert Footprint(coupling).file_bytes(coupling.lengths()) == dense
        removed = halved(coupling)
        model = edit(coupling, removed).model
        saved = save(model, tmp_path / f"pruned{external}.onnx")
        written = sum(p.stat().st_size for p in [saved.path, *saved.data_files])
        assert written <= file_bytes(model) <= written + 200
        assert abs(Footprint(coupling).file_bytes(coupling.lengths(removed)) - written) <= 300
