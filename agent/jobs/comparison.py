"""What judges engines against FP32, as the configuration describes the model's task."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.errors import ConfigError
from agent.core.records import CleanModel

if TYPE_CHECKING:
    from agent.core.fidelity.accuracy import Accuracy
    from agent.core.fidelity.comparison import Comparison


def comparison(config: Config, model: CleanModel, accuracy: Accuracy | None = None) -> Comparison:
    """Return a fresh comparison with FP32, which knows the model's task.

    Args:
        config: The effective configuration.
        model: Its outputs are compared.
        accuracy: Fresh, against the labels of the frames; None without.

    Raises:
        ConfigError: if the user's metric can't be loaded.
    """
    from agent.core.fidelity.comparison import Comparison

    task = config.model.task
    return Comparison(task.kind, user_metric(task.kind), task.decoding, accuracy, model.ranked)


def user_metric(kind: str) -> Callable[..., float] | None:
    """Load `module:function` where the task names one.

    Raises:
        ConfigError: if it can't be loaded.
    """
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
