"""The templates beside this file, with the same rules for text from outside on every page."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from agent.core.report.wording import escape_unprintable


def template(name: str) -> jinja2.Template:
    """Return a template of this folder."""
    return environment().get_template(name)


def environment(*folders: Path) -> jinja2.Environment:
    """Return the templates of folders, then those of this one.

    What they show is escaped, and a name that they lack is an error.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """Escape text from outside; what was drawn here is markup and stays."""
    return (
        escape_unprintable(value)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )
