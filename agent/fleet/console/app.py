"""The console as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Registered
from starlette.types import ASGIApp

from agent.fleet.console import (
    compare,
    device,
    fleet,
    live,
    model,
    people,
    quarantine,
    report,
    send,
    signing_in,
)
from agent.fleet.console.access import Asked, Protected
from agent.fleet.console.metrics import metrics
from agent.fleet.console.routing import Console, Route, message

ROUTES: tuple[Route, ...] = (
    *signing_in.ROUTES,
    *fleet.ROUTES,
    *live.ROUTES,
    *device.ROUTES,
    *report.ROUTES,
    *model.ROUTES,
    *compare.ROUTES,
    *quarantine.ROUTES,
    *send.ROUTES,
    *people.ROUTES,
)


def app(console: Console) -> ASGIApp:
    """Return the application."""

    async def asset(request: Request) -> Response:
        return console.rendering.asset(request.path_params["name"])

    async def scraped(request: Request) -> Response:
        return await run_in_threadpool(metrics, console, request)

    async def missing(request: Request, error: Exception) -> Response:
        asked = Asked(user=None, path={}, query={}, form={}, url=request.url.path)
        status = error.status_code if isinstance(error, HTTPException) else 500
        return message(console, asked, status, "There is no such page")

    pages = [route.registered(console) for route in ROUTES]
    starlette = Starlette(
        routes=[*pages, Registered("/static/{name}", asset), Registered("/metrics", scraped)],
        exception_handlers={HTTPException: missing},
    )
    return Protected(starlette, secure=console.serving.secure)
