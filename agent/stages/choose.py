"""From measured candidates to the choice."""

from __future__ import annotations

from collections.abc import Sequence

from agent.config import Config
from agent.core import choice
from agent.core.lineage import Candidate, Choice


def choose(candidates: Sequence[Candidate], config: Config) -> Choice:
    """Choose by the configuration's objective and limits; see `core.choice.choose`."""
    return choice.choose(candidates, config.objective.metric, config.limits.by_name())
