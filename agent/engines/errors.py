"""What ONNX Runtime raises: a class for each status, with no base of their own."""

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
"""To be caught at the call of the runtime, and translated there."""


def one_line(error: Exception) -> str:
    """Return an error's text on one line, cut to what a person reads."""
    return " ".join(str(error).split())[:300]
