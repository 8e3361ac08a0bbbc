"""An engine of ONNX Runtime, run as it was when it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from agent.client.errors import ReleaseError

_QUIET = 4  # errors reach the caller as exceptions


class OnnxruntimeEngine:
    """Loads an engine with the providers, their options and the threads of its release.

    Args:
        engine: The file's bytes.
        runtime: `runtime` of model.json.

    Raises:
        ReleaseError: "no_runtime" if ONNX Runtime or a provider is missing, "runtime" if it refuses.
    """

    def __init__(self, engine: bytes, runtime: Mapping[str, Any]) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise ReleaseError(
                f"the release runs on ONNX Runtime {runtime['version']}, which can't be imported: "
                f"{e}",
                code="no_runtime",
                hint="pip install onnxruntime; for a GPU the build that has its provider",
            ) from e
        wanted = list(runtime["providers"])
        for one in wanted:
            if one not in onnxruntime.get_available_providers():
                raise _missing(one, f"ONNX Runtime {onnxruntime.__version__} here has it not")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = runtime["threads"]
        options.log_severity_level = _QUIET
        given = runtime["provider_options"]
        try:
            self._session = onnxruntime.InferenceSession(
                engine, options, providers=[(one, given.get(one, {})) for one in wanted]
            )
        except Exception as e:  # its exceptions share no other class
            raise _failed(e) from e
        for one in wanted:  # ONNX Runtime drops what does not load, with a message on stderr only
            if one not in self._session.get_providers():
                raise _missing(one, "it does not load here: its driver or libraries are missing")

    def run(self, name: str, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; they are the caller's."""
        names = [one.name for one in self._session.get_outputs()]
        try:
            found = self._session.run(names, {name: tensor})
        except Exception as e:
            raise _failed(e) from e
        return dict(zip(names, found, strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _missing(provider: str, reason: str) -> ReleaseError:
    return ReleaseError(
        f"the release runs on {provider}: {reason}",
        code="no_runtime",
        hint="without it the figures of the release mean nothing; install what it needs, or run "
        "`quantd optimize` in this environment",
    )


def _failed(error: Exception) -> ReleaseError:
    return ReleaseError(f"ONNX Runtime: {' '.join(str(error).split())[:600]}", code="runtime")
