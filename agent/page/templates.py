"""The templates beside this file, with the same rules for text from outside on every page."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from agent.core.report.wording import escape_unprintable


def template(name: str) -> jinja2.Template:
    """Return a template; what it shows is escaped, and a name that it lacks is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    ).get_template(name)


def _shown(value: object) -> object:
    """Escape text from outside; what was drawn here is markup and stays."""
    return (
        escape_unprintable(value)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )
