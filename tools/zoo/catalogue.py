"""Every architecture in the order of export: a diverse handful first, then by library."""

from __future__ import annotations

from dataclasses import replace

from zoo import handwritten_models, timm_models, torchvision_models, transformers_models
from zoo.entry import Entry

# Work on the files can start while most of them are still being written.
_FIRST = (
    "resnet18", "mobilenet_v2", "densenet121", "vit_tiny_patch16_224", "swin_tiny_narrow", "bert", "gpt2",
    "llama", "shufflenet_v2_x1_0", "convnext_atto", "unet", "lstm", "cifar_resnet20", "yolo_c2f",
    "resnet18_bn", "swin_t", "resnet50", "vit_b_16",
)  # fmt: skip
# Opset 23 has Attention, RotaryEmbedding and RMSNormalization; only the current exporter writes it.
_OPSET_23 = ("llama", "gpt2", "vit_tiny_patch16_224", "qwen3")
# More of the same kinds, for nightly runs.
_EXTENDED = frozenset({
    "bert_mlm", "bilstm", "bloom", "botnet26t_256", "coat_tiny", "convnextv2_atto", "cs3darknet_s",
    "dpn48b", "efficientvit_m0", "fastvit_t8", "fcos_resnet18_fpn", "focalnet_tiny_srf", "gernet_s",
    "ghostnetv2_100", "hgnetv2_b0", "lcnet_050", "llama_eager", "mambaout_femto", "mobilevitv2_050",
    "mpnet", "mvitv2_tiny", "phi3", "pit_ti_224", "regnet_x_400mf", "repvit_m0_9", "resmlp_12_224",
    "retinanet_resnet18_fpn", "rexnet_100", "rnn", "segformer", "selecsls42b", "skresnet18",
    "squeezebert", "starnet_s1", "twins_svt_narrow", "unet_resize", "visformer_tiny",
    "vit_small_patch16_dinov3", "wide_resnet14_2", "yolo_csp",
})  # fmt: skip


def catalogue() -> tuple[Entry, ...]:
    """All entries; names are unique because files are named after them."""
    lists = (torchvision_models, handwritten_models, transformers_models, timm_models)
    stock = [entry for module in lists for entry in module.ENTRIES]
    named = {entry.name: entry for entry in stock}
    assert len(named) == len(stock), "two entries share a name"
    newer = [replace(named[name], name=f"{name}_opset23", opset=23, exporters=("dynamo",)) for name in _OPSET_23]
    first = [named.pop(name) for name in _FIRST]
    rest = _interleaved([*named.values()])
    late = [replace(entry, extended=True) for entry in rest if entry.name in _EXTENDED]
    return (*first, *newer, *(entry for entry in rest if entry.name not in _EXTENDED), *late)


def _interleaved(entries: list[Entry]) -> list[Entry]:
    """One of each library in turn, so that a half-built zoo holds all kinds."""
    queues: dict[str, list[Entry]] = {}
    for entry in entries:
        queues.setdefault(entry.source, []).append(entry)
    order = []
    while any(queues.values()):
        order += [queue.pop(0) for queue in queues.values() if queue]
    return order
