"""The architectures of `make zoo`, and how quantd is configured for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCRIPT, DYNAMO = "TorchScript", "dynamo"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network with random weights.

    Attributes:
        package: Where it is from: a key of `builders.PACKAGES`.
        make: Its name there.
        arguments: For the package's constructor.
        side: Of the square input, px.
        outputs: Names given to the outputs.
        exporters: Which make a file of it, beside dynamo for those in `_BY_BOTH`.
        model: quantd's settings below [model], by dotted key.
    """

    name: str
    package: str
    make: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    side: int
    outputs: tuple[str, ...] = ("output",)
    exporters: tuple[str, ...] = (SCRIPT,)
    model: Mapping[str, Any] = field(default_factory=dict)


_IMAGENET = {"input.pixels": "imagenet"}
_UNIT = {"input.pixels": "0..1"}
_CLASSES = {**_IMAGENET, "task.kind": "classification"}
_PIXELS = {**_IMAGENET, "task.kind": "segmentation"}
_BOXES = {"task.kind": "detection", "task.decode.kind": "boxes"}
_YOLO = {**_UNIT, "task.kind": "detection", "task.decode.kind": "yolo"}
_FINISHED = {"task.kind": "detection", "task.decode.kind": "nms"}
_QUERIES = {
    **_IMAGENET,
    **_BOXES,
    "task.decode.boxes": "boxes",
    "task.decode.scores": "logits",
    "task.decode.format": "cxcywh",
    "task.decode.unit": "fractions",
    "task.decode.overlap": 1.0,
}
_RT_DETR = {**_QUERIES, "task.decode.logits": True}
_DETR = {**_QUERIES, "task.decode.softmax": True, "task.decode.no_object": True}


def _torchvision(make: str, side: int, model: Mapping[str, Any], **rest: Any) -> Architecture:
    return Architecture(name=make, package="torchvision", make=make, side=side, model=model, **rest)


def _timm(make: str, side: int, **arguments: Any) -> Architecture:
    return Architecture(
        name=make, package="timm", make=make, arguments=arguments, side=side, model=_CLASSES
    )


def _transformers(
    name: str, side: int, model: Mapping[str, Any], outputs: tuple[str, ...] = ("output",)
) -> Architecture:
    return Architecture(
        name=name, package="transformers", make=name, side=side, model=model, outputs=outputs
    )


def _ultralytics(make: str, model: Mapping[str, Any] = _UNIT, **arguments: Any) -> Architecture:
    marks = "".join(f" {key}" for key, value in arguments.items() if value is True)
    return Architecture(
        name=make + marks,
        package="ultralytics",
        make=make,
        arguments=arguments,
        side=256,
        exporters=("ultralytics",),
        model=model,
    )


_NAMED = ("boxes", "scores", "labels")
_LABELLED = {**_IMAGENET, **_FINISHED, **{f"task.decode.{name}": name for name in _NAMED}}

ARCHITECTURES = (
    _torchvision("resnet18", 128, _CLASSES),
    _torchvision("mobilenet_v2", 128, _CLASSES),
    _torchvision("mobilenet_v3_small", 128, _CLASSES),
    _torchvision("efficientnet_b0", 128, _CLASSES),
    _torchvision("shufflenet_v2_x1_0", 128, _CLASSES),
    _torchvision("densenet121", 96, _CLASSES),
    _torchvision("googlenet", 128, _CLASSES, arguments={"aux_logits": False}),
    _torchvision("regnet_y_400mf", 128, _CLASSES),
    _timm("convnext_atto", 128),
    _timm("ghostnet_050", 128),
    _timm("repvgg_a0", 128),
    _timm("fastvit_t8", 128),
    _timm("mobilenetv4_conv_small", 128),
    _timm("vit_tiny_patch16_224", 96, img_size=96),
    _timm("deit_tiny_distilled_patch16_224", 96, img_size=96),
    _timm("swin_tiny_patch4_window7_224", 224, embed_dim=48),
    _timm("mobilevit_xxs", 128),
    _timm("levit_128s", 224),
    _timm("efficientvit_b0", 128),
    _timm("poolformer_s12", 96),
    _torchvision("deeplabv3_mobilenet_v3_large", 128, _PIXELS),
    _torchvision("lraspp_mobilenet_v3_large", 128, _PIXELS),
    _transformers("segformer", 128, _PIXELS),
    Architecture(name="unet", package="own", make="unet", side=128, model={**_UNIT, **_PIXELS}),
    _transformers("dpt", 128, _IMAGENET),
    _transformers("depth_anything", 112, _IMAGENET),
    _transformers("vitpose", 128, _IMAGENET),
    Architecture(name="crnn", package="own", make="crnn", side=64, model={**_UNIT}),
    _ultralytics("yolov5nu", _YOLO),
    _ultralytics("yolov8n", _YOLO),
    _ultralytics("yolov8n", {**_UNIT, **_FINISHED}, nms=True),
    _ultralytics("yolov10n", _YOLO),
    _ultralytics("yolo11n", _YOLO),
    _ultralytics("yolo11n", _YOLO, half=True),
    _ultralytics("yolo11n-seg", {**_YOLO, "task.decode.masks": "output1"}),
    _ultralytics("yolo11n-pose", {**_YOLO, "task.decode.keypoints": 17}),
    _ultralytics("yolo11n-obb", {**_YOLO, "task.decode.rotated": True}),
    _ultralytics("yolo11n-cls", {**_UNIT, "task.kind": "classification"}),
    _ultralytics("yolo26n", _YOLO),
    _ultralytics("yolo26n-seg", {**_YOLO, "task.decode.masks": "output1"}),
    _transformers("detr", 128, _DETR, ("logits", "boxes")),
    _transformers("yolos", 128, _DETR, ("logits", "boxes")),
    _transformers("rt_detr", 128, _RT_DETR, ("logits", "boxes")),
    _transformers("d_fine", 128, _RT_DETR, ("logits", "boxes")),
    _torchvision("ssdlite320_mobilenet_v3_large", 320, _LABELLED, outputs=_NAMED),
    _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", 160, _LABELLED, outputs=_NAMED),
)

# Torch's two exporters write different graphs, and alike ones of networks of one kind.
_BY_BOTH = frozenset(
    {
        "convnext_atto",
        "crnn",
        "d_fine",
        "detr",
        "dpt",
        "efficientnet_b0",
        "levit_128s",
        "lraspp_mobilenet_v3_large",
        "mobilenet_v3_small",
        "mobilevit_xxs",
        "resnet18",
        "rt_detr",
        "segformer",
        "shufflenet_v2_x1_0",
        "ssdlite320_mobilenet_v3_large",
        "swin_tiny_patch4_window7_224",
        "unet",
        "vit_tiny_patch16_224",
    }
)
TARGETS: Mapping[str, tuple[Architecture, str]] = {
    f"{one.name.replace(' ', '-')}.{exporter}.onnx": (one, exporter)
    for one in ARCHITECTURES
    for exporter in (*one.exporters, *((DYNAMO,) if one.name in _BY_BOTH else ()))
}
"""Every graph to be made, by the name of its file."""
