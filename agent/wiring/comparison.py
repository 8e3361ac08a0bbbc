"""What judges engines against FP32, as the configuration describes the model's task."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import to_builtins

from agent.config import Config
from agent.core.errors import ConfigError

if TYPE_CHECKING:
    from agent.core.fidelity import Comparison


def comparison(config: Config) -> Comparison:
    """Return a fresh comparison with FP32, which knows the model's task."""
    from agent.core.box_decoding import Decoding
    from agent.core.fidelity import Comparison

    task = config.model.task
    decoding = Decoding(**to_builtins(task.decode)) if task.decode.kind else None
    return Comparison(task.kind, _user_metric(task.kind), decoding)


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
