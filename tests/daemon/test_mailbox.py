from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time

import pytest

from agent.core.control.command import Stage
from agent.core.control.events import Ended, Stop
from agent.core.control.link import Acked, CommandArrived, Connected, Disconnected
from agent.daemon.mailbox import Mailbox


def command(number: int, size: int = 10, *, qos: int = 1) -> CommandArrived:
    return CommandArrived(f"cmd/{number}", b"x" * size, False, number if qos else 0)


def taken(mailbox: Mailbox) -> list[object]:
    found: list[object] = []
    while True:
        try:
            found.append(mailbox.get(0.0))
        except queue.Empty:
            return found


def test_acknowledgements_come_first_then_events_then_commands() -> None:
    mailbox = Mailbox()
    end = Ended("r", Stage.SUCCEEDED)
    for event in (command(1), end, Acked(7, True, 0), command(2), Acked(8, True, 0)):
        mailbox.put(event)
    assert mailbox.acks_wait
    assert taken(mailbox) == [Acked(7, True, 0), Acked(8, True, 0), end, command(1), command(2)]
    assert not mailbox.acks_wait


def test_it_is_full_above_the_limit_until_commands_were_taken() -> None:
    mailbox = Mailbox(limit_bytes=100_000)
    for number in range(1, 4):
        assert not mailbox.full
        mailbox.put(command(number, 40_000))
    assert mailbox.full
    mailbox.get(0.0)
    assert not mailbox.full
    mailbox.put_back([command(1, 40_000)])
    assert mailbox.full
    assert taken(mailbox) == [command(number, 40_000) for number in (1, 2, 3)]


def test_many_small_commands_fill_it_too() -> None:
    mailbox = Mailbox(limit_bytes=1_000_000)
    for number in range(2000):
        mailbox.put(command(number, 0))
    assert mailbox.full


def test_what_came_over_a_lost_connection_is_dropped_for_the_broker_sends_it_again() -> None:
    mailbox = Mailbox(limit_bytes=50_000)
    mailbox.put(command(1, 60_000))
    mailbox.put(command(0, qos=0))
    mailbox.put(Disconnected("lost"))
    assert not mailbox.full
    mailbox.put(Connected(2, True, None))
    mailbox.put(command(3))
    assert taken(mailbox) == [
        Disconnected("lost"), Connected(2, True, None), command(0, qos=0), command(3),
    ]  # fmt: skip


def test_what_is_put_back_after_its_connection_was_lost_is_dropped_too() -> None:
    mailbox = Mailbox()
    for number in (1, 2):
        mailbox.put(command(number))
    mailbox.put(command(0, qos=0))
    batch = mailbox.commands(9)
    mailbox.put(Disconnected("lost"))
    mailbox.put(command(3))
    mailbox.put_back(batch)
    assert mailbox.commands(9) == [command(0, qos=0), command(3)]


def test_commands_can_be_left_waiting() -> None:
    mailbox = Mailbox()
    mailbox.put(command(1))
    with pytest.raises(queue.Empty):
        mailbox.get(0.0, commands=False)
    mailbox.put(Stop())
    assert mailbox.get(0.0, commands=False) == Stop()
    assert mailbox.get(0.0) == command(1)


def test_waiting_ends_with_an_event_of_another_thread() -> None:
    mailbox = Mailbox()
    threading.Timer(0.05, mailbox.put, (Stop(),)).start()
    assert mailbox.get(20.0) == Stop()


def test_a_signal_handler_may_put_at_any_moment() -> None:
    mailbox = Mailbox()
    before = signal.signal(signal.SIGALRM, lambda *_: mailbox.put(Stop()))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        stops = commands = 0
        deadline = time.monotonic() + 20
        while stops < 200:
            assert time.monotonic() < deadline
            mailbox.put(command(commands + 1))
            commands += 1
            for event in taken(mailbox):
                stops += isinstance(event, Stop)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_no_wait_ends_at_once_on_every_python() -> None:
    """Python 3.10's SimpleQueue waits for ever in about one of 3,000 such calls."""
    ended = threading.Event()

    def ask() -> None:
        for _ in range(30_000):
            with contextlib.suppress(queue.Empty):
                Mailbox().get(0.0)
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    assert ended.wait(60.0)
