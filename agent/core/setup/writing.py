"""A short quantd.toml, with the origin of each value behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from agent.core.report.wording import escape_unprintable
from agent.core.setup.settings import Setting, Value

_WIDTH = 100
_TABLES = (
    "camera", "model", "model.input", "model.task", "model.task.decode", "search", "storage",
)  # fmt: skip


def toml(settings: Sequence[Setting], *, heading: str, notes: Sequence[str] = ()) -> str:
    """Return the text of a configuration file.

    Args:
        settings: Values with their origins; keys in the tables of _TABLES.
        heading: The first line, a comment.
        notes: What is not known or not used, and why; comments above the tables.
    """
    lines = [
        f"# {_comment(heading)} Behind each value: its origin.",
        "# Every other key has its default: see configs/quantd.toml, or `quantd check-config`.",
    ]
    lines += [f"# Note: {_comment(note)}" for note in notes]
    tables: dict[str, list[Setting]] = {name: [] for name in _TABLES}
    for one in settings:
        tables.setdefault(one.key.rpartition(".")[0], []).append(one)
    for table, values in tables.items():
        if values:
            lines += ["", f"[{table}]"]
            for one in values:
                lines += _assignment(one)
    return "\n".join(lines) + "\n"


def _assignment(setting: Setting) -> Iterator[str]:
    key, origin = setting.key.rpartition(".")[2], _comment(setting.origin)
    text = f"{key} = {spelled(setting.value)}"
    if len(text) <= _WIDTH:
        yield f"{text}    # {origin}"
        return
    yield f"# {key}: {origin}"
    if not isinstance(setting.value, tuple):
        yield text
        return
    yield f"{key} = ["
    line = "   "
    for value in setting.value:
        item = f" {spelled(value)},"
        if len(line) + len(item) > _WIDTH and line.strip():
            yield line
            line = "   "
        line += item
    yield line
    yield "]"


def spelled(value: Value) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(spelled(one) for one in value) + "]"
    if isinstance(value, str):  # JSON escapes what TOML does, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _comment(text: str) -> str:
    """Return a text without line ends: names of outputs come from the model file."""
    return " ".join(escape_unprintable(text).split())
