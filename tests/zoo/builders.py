"""Networks with random weights, in the environment of requirements.txt; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.architectures import Architecture

_CLASSES = 20


class Outputs(nn.Module):
    """A network with tensors as outputs, in a fixed order."""

    def __init__(self, network: nn.Module, chosen: Callable[[Any], Any]) -> None:
        super().__init__()
        self.network = network
        self.chosen = chosen

    def forward(self, image: Tensor) -> Any:
        return self.chosen(self.network(image))


class Listed(nn.Module):
    """A detector of torchvision, which takes a list of pictures and returns one of boxes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        found = self.network(list(image))[0]
        return found["boxes"], found["scores"], found["labels"]


def torchvision(architecture: Architecture) -> nn.Module:
    from torchvision.models import get_model

    detector = architecture.outputs[0] == "boxes"
    arguments = dict(architecture.arguments)
    if detector or architecture.model.get("task.kind") == "segmentation":
        arguments |= {"weights_backbone": None, "num_classes": _CLASSES}
    if architecture.make.startswith("fasterrcnn"):
        arguments |= {"min_size": architecture.side, "max_size": architecture.side}
    network = get_model(architecture.make, weights=None, **arguments)
    if detector:
        return Listed(network)
    if architecture.model.get("task.kind") == "segmentation":
        return Outputs(network, lambda found: found["out"])
    return network


def timm(architecture: Architecture) -> nn.Module:
    from timm import create_model
    from timm.utils.model import reparameterize_model

    network = create_model(
        architecture.make, pretrained=False, exportable=True, **architecture.arguments
    )
    for name, parameter in network.named_parameters():
        if name.endswith("gamma") and parameter.abs().max() < 0.01:  # or no block has an effect
            nn.init.constant_(parameter, 0.3)
    fill_tokens(network)
    return reparameterize_model(network.eval())


def fill_tokens(network: nn.Module) -> None:
    """Give tokens and positions values as large as those of patches: they begin near zero."""
    for name, parameter in network.named_parameters():
        if name.endswith(("_token", "_tokens", "pos_embed", "position_embeddings")):
            nn.init.normal_(parameter)


def transformers(architecture: Architecture) -> nn.Module:
    network, chosen = _TRANSFORMERS[architecture.make](architecture.side)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):  # theirs lets a signal fade
            nn.init.kaiming_normal_(layer.weight)
    fill_tokens(network)
    for name, head in network.named_modules():
        if name.endswith("class_labels_classifier"):  # or no class is ahead of another
            for layer in head.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=4 / layer.in_features**0.5)
    return Outputs(network, chosen)


def _segformer(side: int) -> Any:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(num_labels=_CLASSES, image_size=side)
    return SegformerForSemanticSegmentation(config), lambda found: found.logits


def _dpt(side: int) -> Any:
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        image_size=side,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=192,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[24, 48, 96, 96],
        fusion_hidden_size=48,
    )
    return DPTForDepthEstimation(config), lambda found: found.predicted_depth


def _depth_anything(side: int) -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        image_size=side,
        patch_size=14,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=96,
        neck_hidden_sizes=[24, 48, 96, 96],
        fusion_hidden_size=32,
    )
    return DepthAnythingForDepthEstimation(config), lambda found: found.predicted_depth


def _vitpose(side: int) -> Any:
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    backbone = VitPoseBackboneConfig(
        image_size=[side, side],
        patch_size=[16, 16],
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        out_indices=[4],
    )
    config = VitPoseConfig(backbone_config=backbone, num_labels=17)
    return VitPoseForPoseEstimation(config), lambda found: found.heatmaps


def _detr(_: int) -> Any:
    from transformers import DetrConfig, DetrForObjectDetection

    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=_small_resnet(),
        num_labels=_CLASSES,
        num_queries=25,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
    )
    return DetrForObjectDetection(config), lambda found: (found.logits, found.pred_boxes)


def _small_resnet() -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )


def _yolos(side: int) -> Any:
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        image_size=[side, side],
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=192,
        num_detection_tokens=25,
        num_labels=_CLASSES,
    )
    return YolosForObjectDetection(config), lambda found: (found.logits, found.pred_boxes)


def _rt_detr(side: int) -> Any:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[64, 96, 128], **_decoder(side)
    )
    return RTDetrForObjectDetection(config), lambda found: (found.logits, found.pred_boxes)


def _d_fine(side: int) -> Any:
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 16, 16],
        hidden_sizes=[64, 256, 512, 1024],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5],
        stage_numb_of_layers=[3, 3, 3, 3],
        use_learnable_affine_block=True,
        out_features=["stage3", "stage4"],
    )
    config = DFineConfig(
        backbone_config=backbone,
        encoder_in_channels=[512, 1024],
        feat_strides=[16, 32],
        num_feature_levels=2,
        encode_proj_layers=[1],
        decoder_n_points=[6, 6],
        **{
            **_decoder(side),
            "decoder_in_channels": [64, 64],
        },
    )
    return DFineForObjectDetection(config), lambda found: (found.logits, found.pred_boxes)


def _decoder(side: int) -> dict[str, Any]:
    return {
        "num_labels": _CLASSES,
        "num_queries": 30,
        "num_denoising": 0,
        "d_model": 64,
        "encoder_hidden_dim": 64,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "decoder_layers": 2,
        "decoder_in_channels": [64, 64, 64],
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "anchor_image_size": [side, side],
    }


_TRANSFORMERS = {
    "segformer": _segformer,
    "dpt": _dpt,
    "depth_anything": _depth_anything,
    "vitpose": _vitpose,
    "detr": _detr,
    "yolos": _yolos,
    "rt_detr": _rt_detr,
    "d_fine": _d_fine,
}


def _twice(inward: int, outward: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            layer
            for count in (inward, outward)
            for layer in (
                nn.Conv2d(count, outward, 3, padding=1, bias=False),
                nn.BatchNorm2d(outward),
                nn.ReLU(),
            )
        )
    )


class Unet(nn.Module):
    """A U-Net of three levels, upsampled by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.down = nn.ModuleList(map(_twice, (3, *widths[:-1]), widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(w, w // 2, 2, stride=2) for w in widths[:0:-1])
        self.joined = nn.ModuleList(_twice(w, w // 2) for w in widths[:0:-1])
        self.head = nn.Conv2d(widths[0], 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            image = block(nn.functional.max_pool2d(image, 2) if level else image)
            kept.append(image)
        image = kept.pop()
        for up, joined in zip(self.up, self.joined, strict=True):
            image = joined(torch.cat([kept.pop(), up(image)], dim=1))
        return self.head(image)


class Crnn(nn.Module):
    """Convolutions, then an LSTM in both directions over the columns: a reader of text lines."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Sequential(
            _twice(3, 16), nn.MaxPool2d(2), _twice(16, 32), nn.MaxPool2d(2), _twice(32, 48)
        )
        self.read = nn.LSTM(48, 32, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, 37)

    def forward(self, image: Tensor) -> Tensor:
        columns = self.seen(image).mean(dim=2).transpose(1, 2)
        return self.head(self.read(columns)[0])


def own(architecture: Architecture) -> nn.Module:
    return {"unet": Unet, "crnn": Crnn}[architecture.make]()


PACKAGES: dict[str, Callable[[Architecture], nn.Module]] = {
    "torchvision": torchvision,
    "timm": timm,
    "transformers": transformers,
    "own": own,
}


def settle(network: nn.Module, images: Tensor) -> nn.Module:
    """Give BatchNormalization the statistics of pictures, so that no signal fades or explodes."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
            layer.momentum = 1.0
    with torch.no_grad():
        network(images)
    return network.eval()
