"""The architectures taken from timm: the smallest stock variant of each family, at its stock size."""

from __future__ import annotations

from functools import partial
from typing import Any

from zoo.entry import Entry, image
from zoo.torchvision_shim import import_torchvision


def _create(name: str, **options: Any) -> Any:
    import_torchvision()  # timm imports it, and would meet the missing operators
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _unfused(name: str) -> Any:
    """Attention in primitives: where its fused form takes a flag from a shape, TorchScript cannot trace it."""
    import_torchvision()
    import timm

    timm.layers.set_fused_attn(False)
    return timm.create_model(name, pretrained=False)


def _convmixer() -> Any:
    """A quarter of the stock depth and width; the factory takes neither as an argument."""
    import_torchvision()
    from timm.models.convmixer import ConvMixer

    return ConvMixer(dim=256, depth=8, kernel_size=7, patch_size=7)


def _of(name: str, family: str, size: int = 224, stock: str | None = None, **options: Any) -> Entry:
    return Entry(name, "timm", family, partial(_create, stock or name, **options), image(size))


_CONVOLUTIONAL = (
    _of("mobilenetv1_100", "mobilenet"),
    _of("mobilenetv4_conv_small", "mobilenet"),
    _of("ghostnet_100", "ghostnet"),
    _of("ghostnetv2_100", "ghostnet"),
    _of("nf_regnet_b0", "nfnet", 192),
    _of("eca_nfnet_l0", "nfnet", 192),
    _of("repvgg_a0", "repvgg"),
    _of("hrnet_w18_small", "hrnet"),
    _of("dla34", "dla"),
    _of("cspresnet50", "csp"),
    _of("cs3darknet_s", "csp"),
    _of("res2net50_26w_4s", "res2net"),
    _of("resnest14d", "resnest"),
    _of("skresnet18", "sknet"),
    _of("legacy_seresnet18", "senet"),
    _of("ecaresnet26t", "eca"),
    _of("ese_vovnet19b_dw", "vovnet"),
    _of("dpn48b", "dpn"),
    _of("selecsls42b", "selecsls"),
    _of("resnetv2_50", "resnet"),
    _of("mixnet_s", "mixnet"),
    _of("rexnet_100", "rexnet"),
    _of("hgnetv2_b0", "hgnet"),
    _of("lcnet_050", "mobilenet"),
    _of("gernet_s", "gernet"),
    _of("convnext_atto", "convnext"),
    _of("convnextv2_atto", "convnext"),
    _of("repvit_m0_9", "repvit"),
    _of("starnet_s1", "starnet"),
    _of("mambaout_femto", "gated cnn"),
    _of("focalnet_tiny_srf", "focalnet", embed_dim=48),
    _of("poolformer_s12", "metaformer"),
    Entry("convmixer_256_8", "timm", "mixer", _convmixer, image(160)),
)

_ATTENTION = (
    _of("vit_tiny_patch16_224", "vit"),
    _of("deit_tiny_distilled_patch16_224", "deit"),
    Entry("eva02_tiny_patch14_224", "timm", "vit", partial(_unfused, "eva02_tiny_patch14_224"), image()),
    _of("vit_small_patch16_dinov3", "vit", 128, depth=4),
    _of("beit_tiny", "beit", 224, "beit_base_patch16_224", embed_dim=192, depth=4, num_heads=3),
    _of("cait_xxs24_224", "cait"),
    _of("xcit_nano_12_p16_224", "xcit"),
    _of("davit_narrow", "davit", 224, "davit_tiny", embed_dims=(48, 96, 192, 384)),
    _of("pvt_v2_b0", "pvt"),
    _of("twins_svt_narrow", "twins", 224, "twins_svt_small", embed_dims=(32, 64, 128, 256)),
    _of("pit_ti_224", "pit"),
    _of("mvitv2_tiny", "mvit"),
    _of("tiny_vit_5m_224", "tinyvit"),
    _of("swin_tiny_narrow", "swin", 224, "swin_tiny_patch4_window7_224", embed_dim=48),
    _of("mixer_s16_224", "mixer"),
    _of("gmlp_ti16_224", "gmlp"),
    _of("resmlp_12_224", "mixer"),
    _of("mobilevit_xxs", "hybrid", 256),
    _of("mobilevitv2_050", "hybrid", 256),
    _of("levit_128s", "hybrid"),
    _of("efficientformer_l1", "hybrid"),
    _of("edgenext_xx_small", "hybrid"),
    _of("fastvit_t8", "hybrid"),
    _of("efficientvit_b0", "hybrid"),
    _of("efficientvit_m0", "hybrid"),
    _of("coatnet_pico_rw_224", "hybrid"),
    _of("coat_tiny", "hybrid"),
    _of("crossvit_9_240", "crossvit", 240),
    _of("convit_tiny", "hybrid"),
    _of("visformer_tiny", "hybrid"),
    _of("botnet26t_256", "hybrid", 256),
)

ENTRIES = _CONVOLUTIONAL + _ATTENTION
