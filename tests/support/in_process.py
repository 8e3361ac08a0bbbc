"""Runs in the process of a test, which sees each step."""

from __future__ import annotations

import threading
from typing import Any

from agent.config import Config
from agent.run.artifacts import Observe
from agent.wiring import runs


def optimize(config: Config, observe: Observe = lambda *_: None, **details: Any) -> runs.Finished:
    """Do one whole run that nothing cancels; `details` are of `wiring.runs.optimize`."""
    return runs.optimize(
        config,
        origin={},
        trigger="test",
        observe=observe,
        warn=lambda _: None,
        cancelled=threading.Event(),
        **details,
    )
