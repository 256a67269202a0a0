"""The architectures taken from torchvision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from zoo.entry import Entry, Input, image
from zoo.torchvision_shim import import_torchvision


def _stock(name: str, **options: Any) -> Any:
    return import_torchvision().models.get_model(name, weights=None, **options)


def _small_classifier(name: str, features: int, hidden: int) -> Any:
    """AlexNet or VGG with narrow dense layers: the stock ones are 90 % of the file and add no structure."""
    from torch import nn

    model = _stock(name)
    model.classifier = nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(True), nn.Dropout(),
        nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(), nn.Linear(hidden, 1000),
    )  # fmt: skip
    return model


def _wide_resnet() -> Any:
    resnet = import_torchvision().models.resnet
    return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], width_per_group=128)


def _googlenet() -> Any:
    return _stock("googlenet", aux_logits=False, init_weights=True)


def _inception() -> Any:
    return _stock("inception_v3", aux_logits=False, init_weights=True)


def _segmenter(name: str) -> Any:
    from zoo.module_wrappers import Only

    return Only(_stock(name, weights_backbone=None), "out")


def _fcn() -> Any:
    """FCN's head on MobileNetV3: the stock backbones make files of 130 MB and more."""
    from zoo.module_wrappers import Only

    segmentation = import_torchvision().models.segmentation
    backbone = _stock("lraspp_mobilenet_v3_large", weights_backbone=None).backbone
    head = segmentation.fcn.FCNHead(960, 21)
    return Only(segmentation.fcn.FCN(Only(backbone, "high", rename="out"), head), "out")


def _raw_heads(make: Callable[[Any], Any]) -> Any:
    from zoo.module_wrappers import DetectionHeads

    return DetectionHeads(make(import_torchvision().models.detection))


def _ssdlite(detection: Any) -> Any:
    return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)


def _pyramid(detection: Any) -> Any:
    return detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5, returned_layers=[2, 3, 4]
    )


def _fcos(detection: Any) -> Any:
    return detection.FCOS(_pyramid(detection), num_classes=21)


def _retinanet(detection: Any) -> Any:
    anchors = detection.anchor_utils.AnchorGenerator(((32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 4)
    return detection.RetinaNet(_pyramid(detection), num_classes=21, anchor_generator=anchors)


def _of(name: str, family: str, build: Callable[[], Any] | None = None, size: int = 224, **more: Any) -> Entry:
    return Entry(name, "torchvision", family, build or partial(_stock, name), image(size), **more)


ENTRIES = (
    _of("resnet18", "resnet"),
    _of("resnet18_bn", "resnet", partial(_stock, "resnet18"), fuse_batch_norm=False),
    _of("resnet50", "resnet"),
    _of("resnext50_32x4d", "resnet"),
    _of("wide_resnet14_2", "resnet", _wide_resnet),
    _of("mobilenet_v2", "mobilenet"),
    _of("mobilenet_v2_bn", "mobilenet", partial(_stock, "mobilenet_v2"), fuse_batch_norm=False),
    _of("mobilenet_v3_small", "mobilenet"),
    _of("densenet121", "densenet"),
    _of("alexnet", "plain", partial(_small_classifier, "alexnet", 256 * 36, 1024)),
    _of("vgg11_bn", "plain", partial(_small_classifier, "vgg11_bn", 512 * 49, 512)),
    _of("googlenet", "inception", _googlenet),
    _of("inception_v3", "inception", _inception, size=192),
    _of("squeezenet1_1", "squeezenet"),
    _of("shufflenet_v2_x1_0", "shufflenet"),
    _of("mnasnet1_0", "mnasnet"),
    _of("efficientnet_b0", "efficientnet"),
    _of("regnet_y_400mf", "regnet"),
    _of("regnet_x_400mf", "regnet"),
    _of("convnext_tiny", "convnext"),
    _of("vit_b_16", "vit"),
    _of("swin_t", "swin"),
    _of("swin_v2_t", "swin"),
    _of("maxvit_t", "maxvit"),
    _of("fcn_mobilenet_v3", "segmentation", _fcn),
    _of("deeplabv3_mobilenet_v3", "segmentation", partial(_segmenter, "deeplabv3_mobilenet_v3_large")),
    _of("lraspp_mobilenet_v3", "segmentation", partial(_segmenter, "lraspp_mobilenet_v3_large")),
    _of("ssdlite_mobilenet_v3", "detection", partial(_raw_heads, _ssdlite), size=320),
    _of("fcos_resnet18_fpn", "detection", partial(_raw_heads, _fcos)),
    _of("retinanet_resnet18_fpn", "detection", partial(_raw_heads, _retinanet)),
    Entry("mc3_18", "torchvision", "video", partial(_stock, "mc3_18"), (Input("input", (2, 3, 8, 64, 64)),)),
)
