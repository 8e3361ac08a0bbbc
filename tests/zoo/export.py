"""Export architectures as ONNX files, in the environment of requirements.txt.

    python -m tests.zoo.export PICTURES FOLDER FILE...

makes each FOLDER/FILE of `architectures.TARGETS`, with statistics of the pictures; where an exporter
fails, its output is beside it in FILE.txt. Each export has a process of its own, forked after the
imports, which take longer than most exports.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.update(
    CUDA_VISIBLE_DEVICES="",
    HF_HUB_OFFLINE="1",
    YOLO_AUTOINSTALL="false",  # its exporter would install packages
    YOLO_CONFIG_DIR=sys.prefix,
    YOLO_OFFLINE="true",
)

import cv2
import numpy as np
import onnxscript  # noqa: F401
import timm  # noqa: F401
import torch
import torchvision  # noqa: F401
import transformers  # noqa: F401
import ultralytics

from tests.zoo.architectures import DYNAMO, TARGETS, Architecture
from tests.zoo.builders import PACKAGES, settle

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SETTLED_BY = 8
_PATIENCE_S = 900
_OPSET = {DYNAMO: 18}


def by_torch(architecture: Architecture, exporter: str, images: torch.Tensor, target: Path) -> None:
    network = settle(PACKAGES[architecture.package](architecture).eval(), images)
    with torch.no_grad():
        torch.onnx.export(
            network,
            (images[:1],),
            str(target),
            input_names=["image"],
            output_names=list(architecture.outputs),
            opset_version=_OPSET.get(exporter, 17),
            dynamo=exporter == DYNAMO,
            external_data=False,
        )


def by_ultralytics(architecture: Architecture, images: torch.Tensor, target: Path) -> None:
    os.chdir(tempfile.mkdtemp(dir=target.parent))
    network = ultralytics.YOLO(f"{architecture.make}.yaml", verbose=False)
    settle(network.model, images)
    made = network.export(
        format="onnx",
        imgsz=architecture.side,
        opset=17,
        simplify=False,
        device="cpu",
        **architecture.arguments,
    )
    Path(made).rename(target)
    Path.cwd().rmdir()


def tensors(pictures: Path, architecture: Architecture) -> torch.Tensor:
    """Return pictures as the network gets them, shape (n, 3, side, side) float32."""
    size = (architecture.side, architecture.side)
    images = [
        cv2.resize(cv2.imread(str(file)), size)[:, :, ::-1] / 255.0
        for file in sorted(pictures.iterdir())
    ]
    unit = torch.tensor(np.stack(images).transpose(0, 3, 1, 2), dtype=torch.float32)
    if architecture.model.get("input.pixels") != "imagenet":
        return unit
    mean, std = (torch.tensor(one)[:, None, None] for one in (_MEAN, _STD))
    return (unit - mean) / std


def export(architecture: Architecture, exporter: str, pictures: Path, target: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    unfinished = target.with_suffix(".partial")
    images = tensors(pictures, architecture)[:_SETTLED_BY]
    if architecture.package == "ultralytics":
        by_ultralytics(architecture, images, unfinished)
    else:
        by_torch(architecture, exporter, images, unfinished)
    unfinished.rename(target)


def main(pictures: str, folder: str, *files: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    shown = Path(pictures).resolve()
    for file in files:
        architecture, exporter = TARGETS[file]
        target = Path(folder, file).resolve()
        begin = time.monotonic()
        work = partial(export, architecture, exporter, shown, target)
        status = _forked(work, target.with_suffix(".txt"))
        took_s = time.monotonic() - begin
        sys.stderr.write(f"{architecture.name} {exporter}: {status} ({took_s:.0f} s)\n")


def _forked(work: Callable[[], None], log: Path) -> str:
    """Run in a process of its own; its output stays in `log` if it fails."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            shown = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(shown, 1)
            os.dup2(shown, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        log.write_text(f"no end after {_PATIENCE_S} s\n")
        return log.read_text().strip()
    if status == 0:
        log.unlink()
        return "made"
    return log.read_text().strip().splitlines()[-1]


if __name__ == "__main__":
    main(*sys.argv[1:])
