"""Torch forms against ONNX's own backend cases and, for operators that only ONNX Runtime has, against it."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.case import node as backend_cases

from onnxprune.recover import to_torch
from onnxprune.recover.registry import MICROSOFT, Registry, forms, op
from onnxprune.runtime.ort import make_session
from tests.support.contrib_cases import CASES, Case

# One or two cases a family; tools/bench_import.py runs all of them.
NODE_CASES = [
    "abs", "add_bcast", "and4d", "argmax_default_axis_example_select_last_index", "attention_4d_gqa_softcap",
    "attention_3d_with_past_and_present", "attention_4d_causal", "basic_conv_with_padding",
    "conv_with_strides_and_asymmetric_padding", "batchnorm_epsilon", "batchnorm_epsilon_training_mode",
    "bitshift_left_uint8", "bitwise_not_2d", "cast_FLOAT_to_FLOAT16", "cast_FLOAT_to_INT4",
    "castlike_FLOAT_to_FLOAT8E4M3FN", "center_crop_pad_crop_and_pad", "clip_default_min", "col2im_5d", "compress_1",
    "concat_3d_axis_negative_1", "constantofshape_int_zeros", "convinteger_with_padding",
    "convtranspose_output_shape", "convtranspose_group_2", "cumsum_1d_reverse_exclusive",
    "deform_conv_with_multiple_offset_groups", "depthtospace_crd_mode_example", "dequantizelinear_blocked",
    "dequantizelinear_axis", "det_nd", "dft", "div_int8", "dynamicquantizelinear_min_adjusted", "einsum_batch_matmul",
    "elu", "expand_dim_changed", "eyelike_with_dtype", "flatten_negative_axis1", "gather_negative_indices",
    "gather_elements_negative_indices", "gathernd_example_int32_batch_dim1", "gelu_tanh_1", "gemm_all_attributes",
    "globalaveragepool", "gridsample_bicubic_align_corners_0_additional_1", "group_normalization_epsilon",
    "gru_with_initial_bias", "gru_seq_length", "hardmax_negative_axis", "if_seq", "instancenorm_epsilon",
    "layer_normalization_3d_axis1_epsilon", "l2normalization_axis_1", "linear_attention_gated_delta_gqa", "loop11",
    "loop13_seq", "lrn", "lstm_with_peepholes", "lstm_batchwise", "matmulinteger",
    "maxunpool_export_with_output_shape", "melweightmatrix", "mod_mixed_sign_int32", "mvn",
    "nllloss_NCd1_mean_weight_negative_ii", "nonmaxsuppression_two_classes", "nonzero_example",
    "onehot_negative_indices", "pow_types_float32_int64", "prelu_broadcast", "qlinearconv",
    "qlinearmatmul_3D_int8_float32", "quantizelinear_blocked_asymmetric", "quantizelinear_int4",
    "range_float_type_positive_delta_expanded", "reduce_l2_keep_dims_example", "reduce_max_empty_set",
    "reduce_log_sum_exp_negative_axes_keepdims_random", "reflect_pad", "wrap_pad", "edge_pad",
    "reshape_allowzero_reordered", "reshape_zero_and_negative_dim",
    "resize_upsample_scales_cubic_A_n0p5_exclude_outside", "resize_downsample_scales_linear_antialias",
    "resize_tf_crop_and_resize", "resize_upsample_sizes_nearest_not_larger", "reversesequence_time",
    "rms_normalization_2d_axis1", "rnn_seq_length", "roialign_mode_max", "rotary_embedding_interleaved", "scan9_sum",
    "scan_sum", "scatter_elements_with_duplicate_indices", "scatternd_max",
    "sce_NCd1d2d3_sum_weight_high_ii_log_prob", "sequence_insert_at_front", "sequence_map_add_2_sequences",
    "shape_start_1_end_negative_1", "slice_neg_steps", "slice_end_out_of_bounds", "softmax_large_number",
    "split_to_sequence_2", "stft_with_window", "swish", "tensorscatter_circular", "tile_precomputed",
    "top_k_negative_axis", "training_dropout_zero_ratio", "tril_out_neg", "unique_not_sorted_without_axis",
    "unsqueeze_unsorted_axes", "upsample_nearest", "where_long_example",
]  # fmt: skip


SLOW_TO_MAKE = {"averagepool", "lppool", "maxpool"}  # seconds each; test_pooling.py has these


def node_cases() -> Iterator[Any]:
    chosen = {f"test_{name}" for name in NODE_CASES}
    for module in pkgutil.iter_modules(backend_cases.__path__):
        if module.name not in SLOW_TO_MAKE:
            import_module(f"{backend_cases.__name__}.{module.name}")
    for case in backend_cases._NodeTestCases:
        if case.name in chosen:
            yield pytest.param(case, id=case.name)


def value(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    if isinstance(item, onnx.SequenceProto):
        return numpy_helper.to_list(item)
    return numpy_helper.to_optional(item) if isinstance(item, onnx.OptionalProto) else item


def assert_equal(mine: Any, theirs: Any, rtol: float, atol: float) -> None:
    if isinstance(theirs, list):
        for one, other in zip(mine, theirs, strict=True):
            assert_equal(one, other, rtol, atol)
        return
    array = mine.detach()
    array = array.float() if "float8" in str(array.dtype) or array.dtype == torch.bfloat16 else array
    kind = np.complex128 if np.asarray(theirs).dtype.kind == "c" else np.float64
    assert tuple(array.shape) == np.shape(theirs)
    np.testing.assert_allclose(array.numpy().astype(kind), np.asarray(theirs).astype(kind), rtol, atol)


@pytest.mark.parametrize("case", node_cases())
def test_onnx_backend_case(case: Any) -> None:
    module = to_torch(case.model, widen=False)
    for inputs, outputs in case.data_sets:
        feeds = dict(zip(module.input_names, map(value, inputs), strict=False))
        found = module.run(feeds, module.output_names)
        for name, expected in zip(module.output_names, map(value, outputs), strict=True):
            assert_equal(found[name], expected, case.rtol, case.atol)


def has_form(case: Case) -> bool:
    return case.runs and forms().find(case.domain, case.op, 1) is not None


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.op}-{k}") for k, c in enumerate(CASES) if has_form(c)])
def test_contrib_operators_equal_onnx_runtime(case: Case) -> None:
    model = case.model()
    for output in model.graph.output[3:]:  # ONNX Runtime does not find the type of some last outputs
        output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    session = make_session(model.SerializeToString())
    expected = session.run(None, case.feeds())
    module = to_torch(model)
    found = module.run(case.feeds(), module.output_names)
    for info, theirs in zip(session.get_outputs(), expected, strict=True):
        if theirs.size and not (case.op in NOT_MADE and info.name in NOT_MADE[case.op]):
            assert_equal(found[info.name], theirs, 1e-4, 1e-5)


NOT_MADE = {  # outputs that mean something in training builds of ONNX Runtime only
    "SkipLayerNormalization": ("y1", "y2"),
    "SkipSimplifiedLayerNormalization": ("y1", "y2"),
}


def test_a_second_form_is_refused() -> None:
    registry = Registry()
    op("Relu", registry=registry)(lambda step, x: x)
    with pytest.raises(ValueError, match=r"ai.onnx.Relu since opset 1 has a torch form already"):
        op("Relu", registry=registry)(lambda step, x: x)
    op("Relu", since=6, registry=registry)(lambda step, x: x)
    op("Relu", domain=MICROSOFT, registry=registry)(lambda step, x: x)
