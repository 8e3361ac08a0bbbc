"""What judges engines against FP32, as the configuration describes the model's task."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.errors import ConfigError
from agent.core.records import CleanModel

if TYPE_CHECKING:
    from agent.core.fidelity.comparison import Comparison


def comparison(config: Config, model: CleanModel, names: Sequence[str] = ()) -> Comparison:
    """Return a fresh comparison with FP32, which knows the model's task.

    Args:
        config: The effective configuration.
        model: Its outputs are compared.
        names: What the camera calls the frames to be compared on, in their order, if their
            true classes are to be looked up.

    Raises:
        ConfigError: if the user's metric can't be loaded, or the labels don't serve.
    """
    from agent.core.fidelity.comparison import Comparison

    task = config.model.task
    labels = _labels(task.labels, names) if task.labels and names else ()
    return Comparison(task.kind, _user_metric(task.kind), task.decoding, labels, model.ranked)


def _labels(file: str, names: Sequence[str]) -> tuple[int | None, ...]:
    """Return the true class of each frame, None where it is not known."""
    from agent.core.fidelity.accuracy import labels_of, parse_labels

    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as lines:
            return labels_of(names, parse_labels(lines))
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "is not UTF-8 text"
        raise ConfigError(f"model.task.labels: {file}: {reason}", code="bad_labels") from e


def _user_metric(kind: str) -> Callable[..., float] | None:
    """Load `module:function` where the task names one."""
    if ":" not in kind:
        return None
    module, function = kind.split(":")
    try:
        found: Callable[..., float] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as e:
        raise ConfigError(
            f'model.task.kind = "{kind}": {e}',
            hint="the module must be importable by the Python that runs quantd",
        ) from e
    return found
