"""The exceptions of ONNX Runtime: one class per status, without a common base class."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as binding

ONNXRUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        getattr(binding, name)
        for name in (
            "EPFail",
            "EngineError",
            "Fail",
            "InvalidArgument",
            "InvalidGraph",
            "InvalidProtobuf",
            "ModelLoaded",
            "NoModel",
            "NoSuchFile",
            "NotImplemented",
            "RuntimeException",
        )
    ),
)
"""Caught and translated where the runtime is called."""


def one_line(error: Exception) -> str:
    """Return an error's text on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]
