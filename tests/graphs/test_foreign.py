"""Files of other frameworks are named, with the command that makes ONNX of them."""

from __future__ import annotations

import io
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.graphs.model_file import load_model
from agent.core.errors import ModelError
from agent.graphs.foreign import HEAD_BYTES, foreign_format


def saved_by_pytorch() -> bytes:
    """Return an archive as torch.save writes it."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("best/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("best/version", b"3\n")
    return body.getvalue()


def refusal(path: Path, body: bytes) -> ModelError:
    path.write_bytes(body)
    with pytest.raises(ModelError, match="is not an ONNX model") as caught:
        load_model(path, [])
    assert caught.value.code == "not_onnx"
    return caught.value


@pytest.mark.parametrize(
    ("name", "body", "words", "cure"),
    [
        ("best.pt", saved_by_pytorch(), "a PyTorch file",
         "yolo export model=best.pt format=onnx"),
        ("best.pth", b"\x80\x02}q\x00.", "a PyTorch file", "torch.onnx.export"),
        ("best.onnx", saved_by_pytorch(), "a PyTorch file", "model=best.onnx format=onnx"),
        ("m.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite", "--tflite m.tflite --output m.onnx"),
        ("m.onnx", b"\x1c\0\0\0TFL3", "TensorFlow Lite", "--tflite m.onnx"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "a Keras model", "--keras m.h5 --output m.onnx"),
        ("m.keras", b"PK\x03\x04", "a Keras model", "--keras m.keras"),
        ("saved_model.pb", b"\x08\x01", "a TensorFlow graph", "--saved-model DIR"),
        ("faces.ENGINE", b"ftrt\0\0\0\0", "a TensorRT engine", "the ONNX file"),
        ("m.safetensors", b"\x08\0\0\0\0\0\0\0{}", "weights without a graph", "torch.onnx"),
    ],
)  # fmt: skip
def test_a_file_of_another_framework_is_named(tmp_path, name, body, words, cure):
    found = refusal(tmp_path / name, body)
    assert words in found.message
    assert cure in found.hint


@pytest.mark.parametrize("body", [b"", b"hello, this is not a model\n" * 40, b"PK\x03\x04"])
def test_a_file_that_is_nothing_known_is_not_given_a_name(tmp_path, body):
    found = refusal(tmp_path / "m.onnx", body)
    assert " but " not in found.message
    assert "export it again" in found.hint


@given(st.text(min_size=1).map(lambda stem: re.sub(r"[/\0]", "_", stem)), st.binary(max_size=40))
def test_a_name_in_a_command_is_one_word_of_the_shell(stem, head):
    found = foreign_format(Path(f"{stem}.tflite"), head[:HEAD_BYTES])
    assert found is not None
    command = found[1].removeprefix("`").removesuffix("`")
    assert shlex.split(command)[4:] == [f"{stem}.tflite", "--output", f"{stem}.onnx"]
