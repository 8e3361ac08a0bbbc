"""What a configuration may say, key by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import config as configuration
from agent.core.errors import ConfigError


def load(tmp_path: Path, text: str) -> configuration.Config:
    path = tmp_path / "quantd.toml"
    path.write_text(text)
    return configuration.load(path)


@pytest.mark.parametrize("expression", ["daily", "61 * * * *", "* * * *", "0 0 31 2 *"])
@pytest.mark.parametrize("key", ["reoptimize", "window"])
def test_a_schedule_that_is_no_cron_expression_is_refused(
    tmp_path: Path, key: str, expression: str
) -> None:
    with pytest.raises(ConfigError, match=f"schedule.{key}"):
        load(tmp_path, f'[schedule]\n{key} = "{expression}"\n')


def test_a_key_that_nothing_listens_to_is_named(tmp_path: Path) -> None:
    silent = load(tmp_path, "[runtime]\ndla_core = 1\n[drift]\nagreement_below = 0.9\n")
    assert configuration.without_effect(silent) == ("drift.agreement_below", "runtime.dla_core")
    assert configuration.without_effect(load(tmp_path, "")) == ()
