"""/metrics, for Prometheus: with a token of its own, made once in 10 s."""

from __future__ import annotations

import gzip
import hmac

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agent.core.fleet.devices import DeviceQuery
from agent.fleet.console.routing import Console
from agent.fleet.metrics import CONTENT_TYPE, device_metrics, fleet_metrics, group_metrics

_AGE_S = 10.0
SINGLY = 2000  # devices; above, each has its own series on request only


def metrics(console: Console, request: Request) -> Response:
    """Return the metrics; `?devices=all` has the series of each device whatever their number."""
    if not console.metrics_token:
        return PlainTextResponse("metrics are off: start with --metrics-token-file\n", 404)
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {console.metrics_token}".encode()):
        return PlainTextResponse("a bearer token is needed\n", 401)
    singly = request.query_params.get("devices") == "all"
    body = console.remembered.get(("metrics", singly), _AGE_S, lambda: _text(console, singly))
    headers = {"content-type": CONTENT_TYPE, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        key = ("metrics gzip", singly)
        body = console.remembered.get(key, _AGE_S, lambda: gzip.compress(body, compresslevel=1))
    return Response(body, headers=headers)


def _text(console: Console, singly: bool) -> bytes:
    now_ms = console.now_ms
    query = DeviceQuery(sort="name", descending=False, limit=2**31 - 1)
    devices = console.store.devices(query, now_ms).rows
    lines = [
        *fleet_metrics(console.store.counts(now_ms), console.store.workers()),
        *group_metrics(devices),
        *(device_metrics(devices) if singly or len(devices) <= SINGLY else ()),
        "# EOF\n",
    ]
    return "\n".join(lines).encode()
