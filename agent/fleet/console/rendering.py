"""Pages and the files that they load: style, scripts, charts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from starlette.responses import HTMLResponse, Response

from agent.fleet.console.access import Asked
from agent.fleet.console.words import WORDS
from agent.page.templates import environment

_HERE = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".txt": "text/plain",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file that pages load, kept in memory."""

    body: bytes
    media_type: str
    url: str


class Rendering:
    """The templates, compiled once, and the assets."""

    def __init__(self) -> None:
        self._templates = environment(_HERE / "pages")
        self.assets: Mapping[str, Asset] = MappingProxyType(
            {
                file.name.removesuffix(".j2"): self._asset(file)
                for file in sorted((_HERE / "static").iterdir())
            }
        )
        self._templates.filters.update(WORDS)
        self._templates.globals["asset"] = lambda name: self.assets[name].url

    def html(self, asked: Asked, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page; its template reads the request as `asked`."""
        return HTMLResponse(self.text(template, asked=asked, **values), status)

    def text(self, template: str, **values: Any) -> str:
        """Return a template or a part of one as text."""
        return self._templates.get_template(template).render(**values)

    def asset(self, name: str) -> Response:
        """Return an asset; its URL changes with its content, so browsers may keep it."""
        found = self.assets.get(name)
        if found is None:
            return Response(status_code=404)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(found.body, media_type=found.media_type, headers=headers)

    def _asset(self, file: Path) -> Asset:
        body = file.read_bytes()
        if file.suffix == ".j2":
            body = self._templates.from_string(body.decode()).render().encode()
        name = file.name.removesuffix(".j2")
        digest = hashlib.sha256(body).hexdigest()[:12]
        return Asset(
            body=body, media_type=_TYPES[Path(name).suffix], url=f"/static/{name}?v={digest}"
        )
