"""What the idle daemon costs when it has handled many signed commands."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import jwt
import psutil

from tests.benchmarks.bench_daemon import idle
from tests.benchmarks.rows import Row
from tests.support.broker import any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.keys import KEY_ID, make_key
from tests.support.scene import write_config

_DEVICE = "cam-1"
_COMMANDS = 1000
_FIRST = 100  # by then every module is loaded and every pool filled
_WINDOW = 20
_SECONDS = 60.0
_RSS_MB = 40.0
_GROWTH_MB = 1.0
_CPU_PERCENT = 0.05


def rows() -> list[Row]:
    """Return resident memory, its growth and processor time after 1,000 signed commands."""
    with tempfile.TemporaryDirectory() as name, any_broker(folder := Path(name)) as broker:
        key = make_key(folder / "keys")
        config = write_config(
            folder,
            mqtt={"host": broker.host, "port": broker.port},
            commands={"keys_dir": str(folder / "keys")},
        )
        with (
            Console(broker.host, broker.port, _DEVICE) as console,
            DaemonProcess(config) as daemon,
        ):
            console.wait("state", lambda m: m["status"] == "online")
            assert daemon.process is not None
            process = psutil.Process(daemon.process.pid)
            _ping(console, key, range(_FIRST))
            early = idle(process, 1.0)
            _ping(console, key, range(_FIRST, _COMMANDS))
            late = idle(process, _SECONDS)
    detail: dict[str, object] = {"after_100": early, f"after_{_COMMANDS}": late}
    growth_mb = round(late["rss_mb"] - early["rss_mb"], 1)
    after = f"idle with a broker, after {_COMMANDS} signed commands"
    return [
        Row(
            what=f"{after}: resident",
            goal=f"under {_RSS_MB:g} MB",
            found=f"{late['rss_mb']} MB",
            met=late["rss_mb"] < _RSS_MB,
            detail=detail,
        ),
        Row(
            what=f"its growth over the last {_COMMANDS - _FIRST} of them",
            goal=f"under {_GROWTH_MB:g} MB",
            found=f"{growth_mb} MB",
            met=growth_mb < _GROWTH_MB,
            detail=detail,
        ),
        Row(
            what=f"{after}: processor, over {_SECONDS:g} s",
            goal=f"under {_CPU_PERCENT:g} % of a core",
            found=f"{late['cpu_percent']} %",
            met=late["cpu_percent"] < _CPU_PERCENT,
            detail=detail,
        ),
    ]


def _ping(console: Console, key: bytes, numbers: range) -> None:
    """Send signed pings, some at a time, and wait for the end of each."""
    for number in numbers:
        name = f"p{number}"
        now = int(time.time())
        claims = {
            "v": 1, "id": name, "jti": name, "type": "ping", "dev": _DEVICE, "aud": _DEVICE,
            "iat": now, "exp": now + 600, "args": {},
        }  # fmt: skip
        console.command(name, jwt.encode(claims, key, "EdDSA", {"kid": KEY_ID}).encode())
        if number % _WINDOW == _WINDOW - 1:
            for sent in range(number - _WINDOW + 1, number + 1):
                answer = console.result(f"p{sent}")
                assert answer["stage"] == "SUCCEEDED", answer
