"""Model files that are not ONNX: what they are, and the command that makes ONNX of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import PurePath
from typing import NamedTuple


class _Format(NamedTuple):
    """A format of another framework; `{file}` and `{stem}` of `cure` are the file's quoted name."""

    words: str
    endings: tuple[str, ...]
    begins: Callable[[bytes], bool]
    cure: str


_FORMATS = (
    _Format(
        "a PyTorch file",
        (".pt", ".pth", ".ptl", ".torchscript"),
        lambda head: head.startswith(b"PK") and b"data.pkl" in head,
        "of Ultralytics: `yolo export model={file} format=onnx`; any other: torch.onnx.export",
    ),
    _Format(
        "a TensorFlow Lite model",
        (".tflite",),
        lambda head: head[4:8] == b"TFL3",
        "`python -m tf2onnx.convert --tflite {file} --output {stem}.onnx`",
    ),
    _Format(
        "a Keras model",
        (".h5", ".hdf5", ".keras"),
        lambda head: head.startswith(b"\x89HDF"),
        "`python -m tf2onnx.convert --keras {file} --output {stem}.onnx`",
    ),
    _Format(
        "a TensorFlow graph",
        (".pb",),
        lambda _: False,
        "`python -m tf2onnx.convert --saved-model DIR --output {stem}.onnx`, DIR with the .pb file",
    ),
    _Format(
        "a TensorRT engine",
        (".engine", ".plan", ".trt"),
        lambda head: head.startswith(b"ftrt"),
        "give the ONNX file that it was built from; quantd builds engines itself",
    ),
    _Format(
        "weights without a graph",
        (".safetensors", ".ckpt"),
        lambda _: False,
        "load them into their network and export that: torch.onnx.export",
    ),
)
HEAD_BYTES = 256
"""As many of a file's first bytes as `foreign_format` needs."""


def foreign_format(path: PurePath, head: bytes) -> tuple[str, str] | None:
    """Return what a file of another framework is, and how to get ONNX; None if it is unknown.

    Args:
        path: Of the file. Its ending counts, then its first bytes.
        head: Its first HEAD_BYTES bytes.
    """
    name = path.name.lower()
    for one in sorted(_FORMATS, key=lambda one: not name.endswith(one.endings)):
        if name.endswith(one.endings) or one.begins(head):
            names = {"file": shlex.quote(path.name), "stem": shlex.quote(path.stem)}
            return one.words, one.cure.format(**names)
    return None
