"""The main thread's mailbox: acknowledgements first, then events, then commands, by their bytes.

Acknowledgements have a queue of their own, so that a burst of commands never stops what the device
sends. `full` is the signal to stop reading from the broker: the rest waits in its socket.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence

from agent.core.control.events import Event
from agent.core.control.link import Acked, CommandArrived, Disconnected, LinkEvent

# More than a broker may send unacknowledged: 20 messages of 256 KiB. One that keeps to that
# never fills the mailbox; mosquitto 2.0 sends 20 more for each acknowledgement.
_LIMIT_BYTES = 6 * 1024 * 1024
_OVERHEAD_BYTES = 1024  # of one command in memory, beside its body


class Mailbox:
    """Events for the main thread, from any thread and from signal handlers.

    Args:
        limit_bytes: Commands above this make it `full`.
    """

    def __init__(self, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._acks: deque[Acked] = deque()
        self._events: deque[Event | LinkEvent] = deque()
        self._commands: deque[CommandArrived] = deque()
        self._lock = threading.Lock()  # of the commands; a signal handler never puts one
        self._size_bytes = 0
        self._newest = self._stale = 0  # numbers of messages; a later connection's are greater
        # Released where something came: safe in a signal handler. A SimpleQueue is not an
        # alternative: on Python 3.10 its get with a short timeout may wait for ever.
        self._wake = threading.Lock()
        self._wake.acquire()

    def put(self, event: Event | LinkEvent) -> None:
        """Add an event; the loss of a connection removes the commands that came over it.

        They were not acknowledged, so the broker sends them again. A command of QoS 0 stays.
        """
        if isinstance(event, Acked):
            self._acks.append(event)
        elif isinstance(event, CommandArrived):
            with self._lock:
                self._commands.append(event)
                self._newest = max(self._newest, event.message)
                self._size_bytes += _size_bytes(event)
        else:
            if isinstance(event, Disconnected):
                self._drop_unacknowledged()
            self._events.append(event)
        with contextlib.suppress(RuntimeError):  # released already
            self._wake.release()

    def get(self, timeout_s: float, *, commands: bool = True) -> Event | LinkEvent:
        """Return the next event; wait for it.

        Args:
            timeout_s: How long to wait, s.
            commands: Whether a command may be returned.

        Raises:
            queue.Empty: if none came.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            for waiting in (self._acks, self._events):
                if waiting:
                    return waiting.popleft()
            if commands:
                found = self.commands(1)
                if found:
                    return found[0]
            if not self._wake.acquire(timeout=max(0.0, end_s - time.monotonic())):
                raise queue.Empty

    def commands(self, count: int) -> Sequence[CommandArrived]:
        """Return the next commands, at most `count`, without waiting."""
        with self._lock:
            found = [self._commands.popleft() for _ in range(min(count, len(self._commands)))]
            self._size_bytes -= sum(map(_size_bytes, found))
        return found

    def put_back(self, commands: Sequence[CommandArrived]) -> None:
        """Return commands that could not be handled now to the front, if their connection lives."""
        with self._lock:
            kept = [one for one in commands if not one.message or one.message > self._stale]
            self._commands.extendleft(reversed(kept))
            self._size_bytes += sum(map(_size_bytes, kept))

    def _drop_unacknowledged(self) -> None:
        with self._lock:
            self._stale = self._newest
            self._commands = deque(command for command in self._commands if not command.message)
            self._size_bytes = sum(map(_size_bytes, self._commands))

    @property
    def full(self) -> bool:
        """Return whether no more commands should be read from the broker now."""
        return self._size_bytes >= self._limit_bytes

    @property
    def acks_wait(self) -> bool:
        """Return whether an acknowledgement comes next."""
        return bool(self._acks)


def _size_bytes(command: CommandArrived) -> int:
    return len(command.body) + _OVERHEAD_BYTES
