"""One piece of work at a time in a storage directory, by the daemon or the command line.

It begins with a recovery: whatever measures or switches finds the releases and the power mode as
they should be, whichever process was killed before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.adapters.host.clock import SystemClock
from agent.adapters.host.commands import run_command
from agent.adapters.storage.lock import Holder, locked, sole_daemon
from agent.config import Config
from agent.core.errors import PowerError, QuantdError
from agent.run import activation
from agent.wiring import storage
from agent.wiring.boards import power_modes

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(
    config: Config,
    what: str,
    *,
    cancelled: threading.Event,
    stopping: threading.Event,
    run_id: str = "",
    waiting: Callable[[str], None] = lambda _: None,
    wait: bool = True,
) -> Iterator[None]:
    """Be the only one that measures or switches, and recover before and after.

    Args:
        config: The effective configuration.
        what: The command, for others that wait: "quantd optimize".
        cancelled: Set from outside to end the waiting.
        stopping: Set from outside to end a recovery too; the next one completes it.
        run_id: The run, for others that wait.
        waiting: Called with the process that is waited for, in words.
        wait: False to raise instead of waiting.

    Raises:
        StoreError: "locked" if another process has the storage and `wait` is False.
        JobError: "canceled".
    """
    holder = _this_process(what, run_id)
    with locked(config.storage.dir, holder, cancelled=cancelled, waiting=waiting, wait=wait):
        _remove_abandoned(config)
        _recover(config, stopping)
        try:
            yield
        finally:  # a switch that was cancelled, or failed on a full disk, is undone
            try:
                _recover(config, stopping)
            except QuantdError as error:
                _LOG.error("recovery_failed code=%s %s", error.code, error.message)


def only_daemon(config: Config) -> contextlib.AbstractContextManager[None]:
    """Be the only daemon of this storage; see `sole_daemon`."""
    return sole_daemon(config.storage.dir, _this_process("quantd run", ""))


def _this_process(verb: str, run_id: str) -> Holder:
    return Holder(pid=os.getpid(), verb=verb, run_id=run_id, since=SystemClock().utc())


def _remove_abandoned(config: Config) -> None:
    """Remove what killed processes left half-written; files of this folder have one writer now."""
    storage.releases(config).remove_abandoned()
    storage.store(config).remove_abandoned()
    for left in Path(config.storage.dir).glob("runs/*/.*-*"):
        with contextlib.suppress(OSError):
            left.unlink()


def _recover(config: Config, stopping: threading.Event) -> None:
    """Restore the power mode that was left changed, and undo a switch without an outcome."""
    try:
        if mode := power_modes(config).restore():
            _LOG.warning("power_mode_restored mode=%s", mode)
    except PowerError as error:
        _LOG.error("power_mode_not_restored code=%s %s", error.code, error.message)
    done = activation.recover(
        config.activation, releases=storage.releases(config), run=run_command, cancelled=stopping
    )
    if done:
        _LOG.warning("activation_recovered %s to %s: %s", done.state, done.release, done.detail)
