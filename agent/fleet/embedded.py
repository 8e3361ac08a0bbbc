"""The console with its store and, unless workers do it, its consumer: one process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from agent.fleet.asking import Asking, Sign
from agent.fleet.console.accounts import Accounts
from agent.fleet.console.app import app
from agent.fleet.console.commands import Commands
from agent.fleet.console.routing import Console
from agent.fleet.console.serving import Listening, bound, serve
from agent.fleet.consumer import now_ms
from agent.fleet.sending import Sender
from agent.fleet.service import Settings, broker, consuming, open_store


async def show(
    settings: Settings,
    listening: Listening,
    accounts_file: Path,
    *,
    consume: bool,
    sign: Sign | None = None,
    metrics_token: str = "",
) -> None:
    """Serve the console until SIGTERM or SIGINT.

    Args:
        settings: Of broker and database.
        listening: Where browsers reach it.
        accounts_file: Users, sessions, commands and the audit log.
        consume: Whether this process stores the messages as well.
        sign: Signs requests for missing messages; None to ask for none.
        metrics_token: For readers of /metrics; "" without metrics.
    """
    store = open_store(settings.database)
    with (
        contextlib.closing(Accounts(accounts_file)) as accounts,
        contextlib.closing(Commands(accounts_file)) as commands,
        bound(listening) as at,
    ):
        sender = Sender(broker(settings), settings.root, commands)
        tasks = [asyncio.create_task(sender.run())]
        if sign is not None:
            asking = Asking(store, sign).run(broker(settings), settings.root, now_ms)
            tasks.append(asyncio.create_task(asking))
        try:
            console = Console(
                accounts=accounts,
                store=store,
                commands=commands,
                wake=sender.wake,
                metrics_token=metrics_token,
                serving=listening.serving,
            )
            async with contextlib.AsyncExitStack() as stack:
                if consume:
                    await stack.enter_async_context(consuming(settings, store, ""))
                sys.stderr.write(_greeting(listening, accounts))
                await serve(app(console), listening, at)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            store.close()


def _greeting(listening: Listening, accounts: Accounts) -> str:
    """Return where the console is, with a link for its first operator if it has none."""
    lines = [f"console: {listening.url}/"]
    token = None if listening.user_header else accounts.first_link()
    if token:
        lines.append(f"first operator, once and within a day: {listening.url}/link/{token}")
    return "".join(f"{line}\n" for line in lines)
