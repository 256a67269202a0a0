"""The architectures written by hand, in zoo/handwritten: the catalogue's line for each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from zoo.entry import Entry, Input, image, tokens


def _load(module: str, name: str, options: dict[str, Any]) -> Any:
    """Imported on use: the modules need torch, and listing the zoo must not."""
    return getattr(import_module(f"zoo.handwritten.{module}"), name)(**options)


def _of(name: str, family: str, where: str, inputs: tuple[Input, ...], **options: Any) -> Entry:
    module, kind = where.split(".")
    return Entry(name, "handwritten", family, lambda: _load(module, kind, options), inputs)


def _detector(block: str) -> Callable[[], Any]:
    def build() -> Any:
        from zoo.handwritten import detector

        return detector.Detector(getattr(detector, block))

    return build


_STEPS = {0: "batch", 1: "time"}

ENTRIES = (
    _of("unet", "segmentation", "unet.UNet", image(96)),
    _of("unet_resize", "segmentation", "unet.UNet", image(96), transposed=False, depth=3),
    Entry("yolo_c2f", "handwritten", "detection", _detector("C2f"), image(160)),
    Entry("yolo_csp", "handwritten", "detection", _detector("CSP"), image(160)),
    _of("lstm", "recurrent", "recurrent.RecurrentClassifier", tokens(mask=False)),
    _of("bilstm", "recurrent", "recurrent.RecurrentClassifier", tokens(mask=False), bidirectional=True),
    _of("gru", "recurrent", "recurrent.RecurrentClassifier", tokens(mask=False), cell="GRU"),
    _of("rnn", "recurrent", "recurrent.RecurrentClassifier", tokens(mask=False), cell="RNN", layers=1),
    _of("gru_tagger", "recurrent", "recurrent.Tagger", (Input("input", (2, 20, 40), _STEPS),)),
    _of("crnn", "recurrent", "recurrent.Reader", (Input("input", (2, 1, 32, 80)),)),
    _of("edsr", "super-resolution", "super_resolution.EDSR", image(32)),
    _of("espcn", "super-resolution", "super_resolution.ESPCN", image(48)),
    _of("m5_wave", "audio", "audio.WaveNet1D", (Input("input", (2, 1, 8000)),)),
    _of("ds_cnn", "audio", "audio.KeywordSpotter", (Input("input", (2, 1, 49, 40)),)),
    _of("tcn", "audio", "audio.TemporalNet", (Input("input", (2, 20, 64)),)),
    _of("cifar_resnet20", "resnet", "small_images.CifarResNet", image(32)),
    _of("group_norm_net", "plain", "small_images.GroupNormNet", image(48)),
    _of("dcgan", "generator", "small_images.Generator", (Input("input", (2, 64)),)),
    _of("autoencoder", "generator", "small_images.Autoencoder", image(28, channels=1)),
    _of("pointnet", "points", "small_images.PointNet", (Input("input", (2, 3, 64)),)),
    _of("torch_transformer", "transformer", "attention.TorchTransformer", tokens(mask=False)),
    _of("einsum_transformer", "transformer", "attention.EinsumTransformer", tokens(mask=False)),
    _of(
        "tabular", "tabular", "attention.TabularNet",
        (Input("categories", (4, 3), fill="ids", high=50), Input("numbers", (4, 10))),
    ),
)  # fmt: skip
