"""One look at the active release, at the start, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.core.control.events import Event
from agent.core.errors import QuantdError

_LOG = logging.getLogger(__name__)

Inspect = Callable[[threading.Event], "Event | None"]
"""Called as inspect(cancelled); returns what the daemon has to know, if anything."""


class Inspector:
    """Looks without holding up the daemon: it loads a runtime in a child process.

    Args:
        inspect: Does the looking; raises a QuantdError if that can't be done.
        post: Puts an event into the daemon's mailbox.
    """

    def __init__(self, inspect: Inspect, post: Callable[[Event], None]) -> None:
        self._inspect = inspect
        self._post = post
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inspector", daemon=True)

    def begin(self) -> None:
        """Start to look; once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the look, if it still goes on."""
        self._cancelled.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            found = self._inspect(self._cancelled)
        except QuantdError as error:
            if error.code != "canceled":
                _LOG.warning("inspection_failed code=%s %s", error.code, error.message)
            return
        if found is None:
            _LOG.info("release_fits")
        else:
            self._post(found)
