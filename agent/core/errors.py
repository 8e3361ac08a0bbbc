"""Every error that quantd raises on purpose.

    QuantdError
    ├── ConfigError        bad configuration or usage (exit code 2)
    ├── CameraError        no camera, lost, hung, wrong URI
    ├── CalibrationError   too few good frames, statistics that make no scale
    ├── ModelError         not an ONNX model, unsupported operator, wrong shapes
    ├── QuantizeError      a recipe that can't be made
    ├── BuildError         the runtime refuses the graph, or was killed building it
    ├── RunnerError        an engine that doesn't load or run
    ├── PowerError         a sensor that is absent, stale or changed
    ├── ActivationError    a release that can't be switched to
    ├── StoreError         disk full, damaged record, no permission
    ├── LinkError          broker absent or refusing
    ├── JobError           a child process that died, hung or was cancelled
    └── CommandError       a remote command that is refused

Expected outcomes (no feasible candidate, a rejected command) are values, not errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QuantdError(Exception):
    """An error a person can act on.

    Args:
        message: What was seen and, where there is one, the limit it broke.
        code: A stable snake_case word for programs; the class gives a default.
        hint: What to do about it; empty if the message already says so.
    """

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    @property
    def passing(self) -> bool:
        """Return whether waiting may help: the disk is full or read-only, or a file locked."""
        return self.code in {"disk_full", "read_only", "busy"}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.code, self.hint))


def _rebuild(kind: type[QuantdError], message: str, code: str, hint: str) -> QuantdError:
    return kind(message, code=code, hint=hint)


class ConfigError(QuantdError):
    """The configuration or the command line is wrong; nothing was started."""

    code = "bad_config"
    exit_code = 2


class CameraError(QuantdError):
    """The camera is absent, lost, hung or not understood."""

    code = "camera"


class CalibrationError(QuantdError):
    """The frames or their statistics are not good enough to calibrate with."""

    code = "calibration"


class ModelError(QuantdError):
    """The model file can't be used as it is."""

    code = "bad_model"


class QuantizeError(QuantdError):
    """A recipe can't be applied to this model."""

    code = "quantize"


class BuildError(QuantdError):
    """The runtime refused to build an engine, or died doing so."""

    code = "build"


class RunnerError(QuantdError):
    """An engine doesn't load or doesn't run."""

    code = "runner"


class PowerError(QuantdError):
    """A power sensor is absent, stale or has changed its rails."""

    code = "power"


class ActivationError(QuantdError):
    """A release can't be made current; the previous one stays."""

    code = "activation"


class StoreError(QuantdError):
    """A record can't be read or written."""

    code = "store"


class LinkError(QuantdError):
    """The broker can't be reached or refuses."""

    code = "link"


class JobError(QuantdError):
    """A child process died, hung or was cancelled."""

    code = "job"


class CommandError(QuantdError):
    """A remote command is refused; the code is the reason on the wire."""

    code = "rejected"


def error_kinds() -> dict[str, type[QuantdError]]:
    """Return every error class by its name, to carry errors between processes."""
    kinds: list[type[QuantdError]] = [QuantdError, *QuantdError.__subclasses__()]
    return {kind.__name__: kind for kind in kinds}


def suggestion(word: str, known: Iterable[str], ending: str = "? ") -> str:
    """Return "did you mean" with the known word that is most like one, for a hint; else ""."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}{ending}" if near else ""
