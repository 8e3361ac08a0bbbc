"""The metrics: bounded, escaped, read by a real promtool and a real Prometheus."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from agent.cli import main
from agent.fleet.console import metrics
from agent.fleet.console.accounts import Accounts
from agent.fleet.console.app import app
from agent.fleet.console.commands import Commands
from agent.fleet.console.routing import Console
from agent.fleet.storage.sqlite import SqliteFleetStore
from tests.support.broker import free_port
from tests.support.fleet_messages import inventory, received, refused, state, telemetry
from tests.support.parts import missing_part
from tests.support.simulated_fleet import NOW_S, fill
from tests.support.web import Visitor, rendering, served

ROOT = Path(__file__).parents[2]
TOKEN = "a token of more than 16 characters"
SAMPLE = re.compile(
    r'[a-z0-9_]+(\{[a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*\})? -?[\d.e+-]+'
)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing_part(name, "apt install prometheus")
    return found


@pytest.fixture
def console(tmp_path):
    store = SqliteFleetStore(str(tmp_path / "fleet.db"))
    accounts, commands = (kind(tmp_path / "console.db") for kind in (Accounts, Commands))
    yield Console(
        accounts=accounts, commands=commands, store=store, metrics_token=TOKEN, rendering=rendering(),
        clock=lambda: NOW_S,
    )  # fmt: skip
    for one in (store, accounts, commands):
        one.close()


def scraped(console: Console, path: str = "/metrics", **headers: str) -> str:
    answer = Visitor(app=app(console)).get(path, authorization=f"Bearer {TOKEN}", **headers)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    if headers:
        assert answer.headers["content-encoding"] == "gzip"
        return gzip.decompress(answer.body).decode()
    return answer.text


def test_each_line_is_open_metrics_and_no_series_comes_twice(console):
    fill(console.store, 60)
    text = scraped(console)
    assert text.endswith("\n# EOF\n")
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(SAMPLE.fullmatch(one) for one in samples)
    series = [one.rpartition(" ")[0] for one in samples]
    assert len(set(series)) == len(series)
    families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(set(families)) == len(families)
    assert 'quantd_fleet_attention_devices{reason="failing"} 1' in text
    assert 'quantd_device_info{device="cam-0001",model="faces",precision="int8"' in text
    assert scraped(console, accept_encoding="gzip") == text


def test_what_devices_send_can_break_no_line(console):
    odd = 'a"b\\c\nd{}# EOF' + "x" * 500
    sent = [
        received(inventory(odd, odd), odd),
        received(state(odd, release=odd, model=odd, precision=odd), odd),
        received(telemetry(json.dumps({"temp_c": 1e400, "disk_free_mb": "x", odd: 1})), odd),
    ]
    console.store.write(sent, [refused(odd)])
    lines = scraped(console).splitlines()
    assert lines.count("# EOF") == 1
    assert all(line.startswith("#") or SAMPLE.fullmatch(line) for line in lines)
    assert max(map(len, lines)) < 700


def test_a_large_fleet_has_series_of_groups_and_of_devices_on_request(console, monkeypatch):
    monkeypatch.setattr(metrics, "SINGLY", 20)
    fill(console.store, 30)
    text = scraped(console)
    assert "quantd_device_" not in text
    assert re.search(r'quantd_group_latency_p50_seconds\{.*quantile="0.99"\} 0\.00', text)
    assert "quantd_device_up" in scraped(console, "/metrics?devices=all")


def test_metrics_need_their_token(console):
    visitor = Visitor(app=app(console))
    for wrong in ("", "Bearer", "Bearer x", f"bearer {TOKEN}", "Bearer é", TOKEN):
        assert visitor.get("/metrics", authorization=wrong).status == 401
    off = Console(accounts=console.accounts, commands=console.commands, store=console.store, rendering=rendering())  # fmt: skip
    assert Visitor(app=app(off)).get("/metrics", authorization="Bearer ").status == 404


@pytest.mark.parametrize("token", ["", "short", "x" * 15])
def test_a_weak_token_is_refused_at_the_start(tmp_path, capsys, token):
    file = tmp_path / "token"
    file.write_text(token)
    assert (
        main(["fleet", "--metrics-token-file", str(file), "--database", str(tmp_path / "f.db")])
        == 2
    )
    assert "openssl rand" in capsys.readouterr().err


def test_rules_and_metrics_pass_promtool(console, tmp_path):
    promtool = program("promtool")
    rules = ROOT / "configs/prometheus/quantd.rules.yml"
    cases = Path(__file__).with_name("quantd.rules.test.yml")
    (tmp_path / "metrics.token").write_text(TOKEN)
    for file in (ROOT / "configs/prometheus").iterdir():
        shutil.copy(file, tmp_path)
    for arguments in (
        ("check", "rules", rules), ("test", "rules", cases), ("check", "config", tmp_path / "prometheus.yml"),
    ):  # fmt: skip
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    fill(console.store, 5)
    # This promtool reads the older format, in which the family of a counter has the suffix as well.
    text = re.sub(
        r"(# \w+ quantd_(?:device|worker)_(?:stored|duplicates|quarantined))\b",
        r"\1_total",
        scraped(console),
    )
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_rules_exists(console):
    fill(console.store, 100)
    text = scraped(console)
    rules = (ROOT / "configs/prometheus/quantd.rules.yml").read_text()
    for name in set(re.findall(r"\bquantd_[a-z_]+", rules)):
        assert f"# TYPE {name.removesuffix('_total')} " in text, name


@pytest.mark.slow
def test_a_real_prometheus_reads_and_joins_the_metrics(console, tmp_path):
    prometheus = program("prometheus")
    fill(console.store, 60)
    with served(console) as url:
        text = (ROOT / "configs/prometheus/prometheus.yml").read_text()
        text = text.replace("127.0.0.1:8765", url.removeprefix("http://")).replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(text)
        (tmp_path / "metrics.token").write_text(TOKEN)
        shutil.copy(ROOT / "configs/prometheus/quantd.rules.yml", tmp_path)
        at = f"127.0.0.1:{free_port()}"
        command = [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={at}"]  # fmt: skip
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                joined = "quantd_device_latency_p50_seconds * on(device) group_left(precision) quantd_device_info"
                found = _answered(at, joined, (tmp_path / "log"))
                assert len(found) == 60
                assert {one["metric"]["precision"] for one in found} == {
                    "fp16",
                    "int8",
                    "int8-mixed",
                }
                assert _answered(at, "quantd:devices_online:ratio", tmp_path / "log")
            finally:
                process.terminate()


def _answered(at: str, query: str, log: Path) -> list[dict]:
    """Return the answer to a query once it has one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            url = f"http://{at}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            found = json.load(urllib.request.urlopen(url))["data"]["result"]
            if found:
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())
