"""The doctor before a broker: a real mosquitto with our own certificates."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent import config as configuration
from agent.doctor import CHECKS, Finding, examine
from tests.support.broker import Mosquitto, any_broker


def check(**mqtt) -> Finding:
    (found,) = examine(configuration.from_dump({"mqtt": mqtt}), {"broker": CHECKS["broker"]})
    assert (found.level == "ok") == (found.cure == "")
    return found


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"host": "127.0.0.1", "port": server.getsockname()[1]}


@pytest.mark.parametrize("missing", ["ca", "cert", "key"])
def test_a_tls_file_that_is_not_there_is_a_problem_before_any_connection(
    listening, tmp_path, missing
):
    files = {"cert": str(tmp_path / "a.crt"), missing: str(tmp_path / "none.pem")}
    found = check(**listening, tls=files)
    assert found.level == "problem"
    assert "none.pem" in found.seen
    assert "PEM files" in found.cure


def test_a_password_file_that_is_not_there_is_a_problem(listening, tmp_path):
    found = check(**listening, username="cam", password_file=str(tmp_path / "none"))
    assert found.level == "problem"
    assert "mqtt.password_file" in found.seen


class Authority:
    """Makes certificates with openssl; each is for one name."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.file = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "90", "-keyout", self._key, "-out", self.file, "-subj", f"/CN={name}",
        )  # fmt: skip

    def sign(self, name: str, days: int = 60) -> tuple[Path, Path]:
        """Return the files of a certificate for a name, and of its key."""
        stem = self._folder / f"{self.file.stem}-{name}-{days}"
        key, request, certificate, names = (
            stem.with_suffix(end) for end in (".key", ".csr", ".crt", ".ext")
        )
        names.write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key,
            "-set_serial", str(os.urandom(8)[0] + 1), "-days", str(days), "-out", certificate,
            "-extfile", names,
        )  # fmt: skip
        key.chmod(0o644)  # mosquitto may run as its own user
        return certificate, key

    def _openssl(self, *words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


def serving(folder: Path, certificate: tuple[Path, Path], *lines: str) -> Mosquitto:
    return Mosquitto(folder, f"certfile {certificate[0]}", f"keyfile {certificate[1]}", *lines)


@pytest.mark.slow
def test_both_sides_know_each_other(tmp_path, authority):
    wanted = (f"cafile {authority.file}", "require_certificate true")
    cert, key = authority.sign("cam-1")
    with serving(tmp_path, authority.sign("localhost"), *wanted) as server:
        place = {"host": "localhost", "port": server.port}
        found = check(**place, tls={"ca": str(authority.file), "cert": str(cert), "key": str(key)})
        assert (found.level, found.seen.rpartition(" ")[2]) == ("ok", "TLSv1.3")

        found = check(**place, tls={"ca": str(authority.file)})
        assert found.level == "problem", "a broker that wants a certificate refuses one without"
        assert "certificate" in found.seen
        assert "mqtt.tls.cert" in found.cure

        cert, key = Authority(tmp_path, "stranger").sign("cam-1")
        found = check(**place, tls={"ca": str(authority.file), "cert": str(cert), "key": str(key)})
        assert found.level == "problem"
        assert "mqtt.tls.cert" in found.cure


@pytest.mark.slow
def test_a_broker_with_the_certificate_of_another_name(tmp_path, authority):
    stranger = Authority(tmp_path, "stranger")
    with serving(tmp_path, authority.sign("elsewhere")) as server:
        place = {"host": "localhost", "port": server.port}
        found = check(**place, tls={"ca": str(authority.file)})
        assert "Hostname mismatch" in found.seen
        assert "mqtt.host" in found.cure
        found = check(**place, tls={"ca": str(stranger.file)})
        assert found.level == "problem"
        assert "mqtt.tls.ca" in found.cure
        assert f"openssl s_client -connect localhost:{server.port}" in found.cure


@pytest.mark.slow
def test_a_port_without_tls_is_reported_as_such(tmp_path, authority):
    with any_broker(tmp_path) as server:
        found = check(host="localhost", port=server.port, tls={"ca": str(authority.file)})
    assert found.level == "problem"
    assert "1883" in found.cure


@pytest.mark.slow
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_another_protocol_on_the_port_is_reported_as_such(authority, answer):
    """A server that hangs up, and one that speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        found = check(host="127.0.0.1", port=port, tls={"ca": str(authority.file)})
        thread.join(10)
    assert found.level == "problem"
    assert "1883" in found.cure


@pytest.mark.slow
def test_a_certificate_that_has_ended_may_be_a_clock_that_is_wrong(tmp_path, authority):
    with serving(tmp_path, authority.sign("localhost", days=-1)) as server:
        found = check(host="localhost", port=server.port, tls={"ca": str(authority.file)})
    assert "expired" in found.seen
    assert "`date`" in found.cure


@pytest.mark.slow
@pytest.mark.parametrize(("days", "level"), [(10, "warning"), (60, "ok")])
def test_a_certificate_that_expires_soon_is_a_warning_with_its_day(
    tmp_path, authority, days, level
):
    cert, key = authority.sign("cam-1", days=days)
    with serving(tmp_path, authority.sign("localhost")) as server:
        found = check(
            host="localhost",
            port=server.port,
            tls={"ca": str(authority.file), "cert": str(cert), "key": str(key)},
        )
    assert found.level == level
    assert ("expires" in found.seen) == (level == "warning")
    if level == "warning":
        assert found.seen.endswith("GMT")


@pytest.mark.slow
def test_a_key_with_a_password_is_refused_not_asked_for_at_the_terminal(tmp_path, authority):
    cert, key = authority.sign("cam-1")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked],
        check=True,
        capture_output=True,
    )
    code = f"""
from agent.adapters.mqtt.credentials import tls_context
from agent.config.tables import Tls
from agent.core.errors import ConfigError
try:
    tls_context(Tls(cert={str(cert)!r}, key={str(locked)!r}))
except ConfigError as error:
    print(error.message)
"""
    keyboard, terminal = pty.openpty()
    try:
        done = subprocess.run(
            ["setsid", "--ctty", "--wait", sys.executable, "-c", code],
            stdin=terminal, capture_output=True, text=True, timeout=30, check=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(keyboard)
    assert "locked.key" in done.stdout
