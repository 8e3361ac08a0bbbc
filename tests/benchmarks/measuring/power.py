"""Mean power against a truth that is known: square waves on a board made of files.

The meters are the product's own; the jtop service is the real one, of both releases that
devices run, and is killed once in the middle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from agent.adapters.power.ina3221 import Ina3221PowerMeter
from agent.adapters.power.jtop import JtopPowerMeter
from agent.core.measurement.power import mean_power
from agent.ports import PowerMeter
from tests.benchmarks.rows import Row
from tests.support.fakejetson import boards
from tests.support.fakejetson.service import FakeJetson
from tests.support.fakejetson.waves import Player, square

_SECONDS = 60.0
_AWAY_S = 2.0
_WAVE = square(5.0, 9.0, 1.37)  # in no simple ratio to any sample period
_PERIOD_S = 0.1
_OLD = Path(sys.prefix, "jetson-stats-4.3.2")
_GOALS = {"jtop": 1.0, "hwmon": 0.5}


def rows() -> list[Row]:
    """Return a row for each meter; all are measured at the same time, a minute in all."""
    found: dict[str, Row] = {}
    works: dict[str, Callable[[Path], Row]] = {
        "jtop, newest": lambda folder: _jtop(folder, ""),
        "jtop, 4.3.2": lambda folder: _jtop(folder, str(_OLD)),
        "hwmon": _hwmon,
    }
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:

        def run(name: str) -> None:
            folder = Path(directory, name.replace(", ", "-"))
            folder.mkdir()
            try:
                found[name] = works[name](folder)
            except (AssertionError, OSError, subprocess.SubprocessError) as e:
                found[name] = _row(name, None, str(e)[:300])

        threads = [threading.Thread(target=run, args=(name,)) for name in works]
        for thread in threads:
            thread.start()
            thread.join(2.0)  # PYTHONPATH chooses the release while the service starts
        for thread in threads:
            thread.join()
    return [found[name] for name in works]


def _jtop(folder: Path, package: str) -> Row:
    """Run in a process of its own: the release is chosen by its environment."""
    environment = {**os.environ, "PYTHONPATH": package} if package else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.measuring.power", str(folder)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise OSError(done.stderr.strip()[-300:])
    name = "jtop, 4.3.2" if package else "jtop, newest"
    return _row(name, Judged(*map(float, done.stdout.split())))


class Judged(NamedTuple):
    """A mean against the truth.

    Attributes:
        read_percent: Error against the truth of the stretches that were read.
        whole_percent: Against that of the whole window, the gap in it too.
    """

    read_percent: float
    whole_percent: float
    gap_s: float
    gaps: float
    coverage: float


def _with_a_kill(folder: Path) -> Judged:
    with (
        FakeJetson(folder, "orin-nano") as jetson,
        JtopPowerMeter(_PERIOD_S, jetson.socket) as meter,
        Player(_WAVE, jetson.rails["VDD_IN"].set) as player,
    ):
        begin_ns = time.monotonic_ns()
        time.sleep(_SECONDS / 2)
        jetson.kill()
        time.sleep(_AWAY_S)
        jetson.start()
        time.sleep(_SECONDS / 2)
        end_ns = time.monotonic_ns() - int(2 * _PERIOD_S * 1e9)
        return _judged(meter, player, begin_ns, end_ns)


def _hwmon(folder: Path) -> Row:
    rails = boards.build(folder, "orin-nano")
    with (
        Ina3221PowerMeter(str(folder)) as meter,
        Player(_WAVE, rails["VDD_IN"].set) as player,
    ):
        begin_ns = time.monotonic_ns()
        time.sleep(_SECONDS)
        end_ns = time.monotonic_ns() - int(2 * meter.period_s * 1e9)
        judged = _judged(meter, player, begin_ns, end_ns)
    return _row("hwmon", judged)


def _judged(meter: PowerMeter, player: Player, begin_ns: int, end_ns: int) -> Judged:
    """Compare with the truth of the same stretches, and with that of all the time."""
    samples = [s for s in meter.samples() if begin_ns <= s.t_ns <= end_ns]
    found = mean_power(samples, [(begin_ns, end_ns)], meter.period_s)
    assert found.mean_w is not None, "no power was read"
    near = [(a.t_ns, b.t_ns) for a, b in pairwise(samples)]
    longest_ns = max(b - a for a, b in near)
    read = [(a, b) for a, b in near if b - a <= 2.5 * meter.period_s * 1e9]
    joules = sum(player.mean_w(a, b) * (b - a) for a, b in read)
    true_w = joules / sum(b - a for a, b in read)
    gap_s = longest_ns / 1e9 if found.gaps else 0.0
    whole_w = player.mean_w(begin_ns, end_ns)
    return Judged(
        read_percent=100 * (found.mean_w / true_w - 1),
        whole_percent=100 * (found.mean_w / whole_w - 1),
        gap_s=gap_s,
        gaps=found.gaps,
        coverage=found.coverage,
    )


def _row(name: str, judged: Judged | None, reason: str = "") -> Row:
    goal = _GOALS[name.split(",", maxsplit=1)[0]]
    killed = ", service killed once in the middle" if name.startswith("jtop") else ""
    if judged is None:
        told, met = f"not measured: {reason}", None
    else:
        gap = f"gap of {judged.gap_s:.1f} s told" if judged.gaps else "no gap"
        told = (
            f"{judged.whole_percent:+.2f} %, {gap} ({judged.read_percent:+.2f} % of what was read)"
        )
        met = max(abs(judged.read_percent), abs(judged.whole_percent)) <= goal
    return Row(
        what=f"mean power of a 5/9 W square wave through {name}{killed}",
        goal=f"within {goal:g} %" + (", the gap reported" if killed else ""),
        found=told,
        met=met,
        detail={"seconds": _SECONDS, **(judged._asdict() if judged else {"reason": reason})},
    )


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, _with_a_kill(Path(sys.argv[1])))))
