"""Power from the jtop service, with its client in a child process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import IO, Any

from agent.adapters.power.ina3221 import TOTALS
from agent.core.errors import PowerError
from agent.core.measurement.power import MOST_W, PowerSample
from agent.packages import pip_install

_FIRST_SAMPLE_S = 10.0
_JOIN_S = 5.0
_BACKOFF_S = (0.5, 30.0)


class JtopPowerMeter:
    """Implements `ports.PowerMeter`.

    A child without a fresh sample for a few periods is killed and restarted with back-off; the time
    between is a gap. Samples of another rail than the first are dropped, since jtop silently
    replaces a total that it can't read by a sum.

    Args:
        period_s: Requested time between samples.
        socket: Of the service; in a container, its mounted path.
        totals: Names of rails for the total; the first one on this board is used, whatever jtop
            makes the total: for jtop 7, every INA238 is the total and named "VIN".
        root: Root of the file system; its hwmon names the rails.
    """

    source = "jtop"

    def __init__(
        self,
        period_s: float = 0.5,
        socket: str = "/run/jtop.sock",
        totals: Sequence[str] = TOTALS,
        root: str = "/",
    ) -> None:
        self.period_s = period_s
        self.most_w = MOST_W
        self._arguments = [socket, root, *totals]
        self.rail = ""
        self._samples: list[PowerSample] = []
        self._trouble = ""
        self._hint = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._fresh_s = 0.0
        self._first = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="power-jtop", daemon=True)

    def __enter__(self) -> JtopPowerMeter:
        """Wait for the first sample.

        Raises:
            PowerError: "no_sensor" with jtop's message.
        """
        if find_spec("jtop") is None:
            raise PowerError(
                "jetson-stats is not installed", code="no_sensor", hint=pip_install("jetson-stats")
            )
        self._thread.start()
        if not self._first.wait(_FIRST_SAMPLE_S) or not self._samples:
            self.__exit__()
            raise PowerError(
                self._trouble or f"no sample from jtop within {_FIRST_SAMPLE_S:g} s",
                code="no_sensor",
                hint=self._hint or "systemctl status jtop",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._kill()
        self._thread.join(_JOIN_S)

    def samples(self) -> Sequence[PowerSample]:
        """See `ports.PowerMeter`; the times are the service's own."""
        return tuple(self._samples)

    def _supervise(self) -> None:
        pause_s = _BACKOFF_S[0]
        while not self._stopped.is_set():
            before = len(self._samples)
            try:
                self._run_child()
            except OSError as e:  # e.g. no memory for a child now
                self._trouble = f"{type(e).__name__}: {e}"
            if len(self._samples) > before:
                pause_s = _BACKOFF_S[0]
            elif not self._samples:
                self._first.set()  # it never worked: fail without waiting
            self._stopped.wait(pause_s)
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    def _run_child(self) -> None:
        module = "agent.adapters.power.jtop_child"
        with (
            subprocess.Popen(
                [sys.executable, "-m", module, str(self.period_s), *self._arguments],
                stdin=subprocess.PIPE,  # the child ends when it is closed, even if this process is killed
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as child
        ):
            self._child = child
            if self._stopped.is_set():  # __exit__ killed only the previous child
                self._kill()
            self._fresh_s = time.monotonic() + _FIRST_SAMPLE_S
            watchdog = threading.Thread(target=self._watch, args=(child,), daemon=True)
            watchdog.start()
            if child.stdout is not None:
                self._read(child.stdout)
            self._kill()
            watchdog.join(_JOIN_S)

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            with contextlib.suppress(ValueError, TypeError, KeyError):  # truncated when it ended
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        if "error" in line:
            self._trouble, self._hint = str(line["error"]), str(line.get("hint", ""))
        elif "mw" in line:
            self._fresh_s = time.monotonic() + 5 * self.period_s + 2
            self.rail = self.rail or line["rail"]
            if line["rail"] == self.rail:
                # /proc/uptime is CLOCK_BOOTTIME, which includes the time that the system was
                # suspended: proc(5), clock_gettime(2)
                suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
                t_ns = round(line["uptime_s"] * 1e9) - suspended_ns
                if not self._samples or t_ns > self._samples[-1].t_ns:
                    self._samples.append(PowerSample(t_ns, line["mw"] / 1e3, self.period_s))
                self._first.set()
        elif "period_s" in line:
            self.period_s = float(line["period_s"])

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None and not self._stopped.wait(0.2):
            if time.monotonic() > self._fresh_s:
                self._trouble = "jtop gave no fresh sample"
                child.kill()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
