"""A Jetson's power modes by NVIDIA's nvpmodel, set as root or through the jtop service."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import PowerError
from agent.disk import READABLE, make_folder, text_of, write_atomically

_CONF = "etc/nvpmodel.conf"
_PATIENCE_S = 30.0
_READ_BACK_S = 10.0
_MARKER = "power-mode"  # file in the storage folder with the mode to restore
_COMMENT = re.compile(r"#.*")
_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=([^>\n]*[^>\s])\s*>")
_MASK = re.compile(r"TPC_POWER_GATING\s+TPC_PG_MASK\s+(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One mode of nvpmodel.conf.

    Attributes:
        gpu_mask: The parts of the GPU that it switches off; empty if it leaves them as they are.
    """

    number: int
    name: str
    gpu_mask: str


def parse(conf: str) -> tuple[Mode, ...]:
    """Return the modes of an nvpmodel.conf, without those in comments."""
    parts = _MODEL.split(_COMMENT.sub("", conf))[1:]
    found = []
    for number, name, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        mask = _MASK.search(body)
        found.append(Mode(number=int(number), name=name, gpu_mask=mask.group(1) if mask else ""))
    return tuple(found)


class NvpModes:
    """Implements `ports.PowerModes`.

    Args:
        folder: For the file with the mode to restore, written before another one is set.
        socket: Of the jtop service, for users other than root.
        root: Root of the file system.
    """

    def __init__(self, folder: str, socket: str = "/run/jtop.sock", root: str = "/") -> None:
        self._marker = Path(folder, _MARKER)
        self._socket = socket
        self._modes = parse(text_of(Path(root, _CONF)))

    def modes(self) -> Mapping[str, str]:
        """See `ports.PowerModes`.

        A mode that switches off other parts of the GPU needs a reboot, which nvpmodel asks for.
        """
        current = self._query() if self._modes else ""
        here = next((m for m in self._modes if m.name == current), None)
        if here is None:
            return {}
        return {
            mode.name: "it takes effect after a reboot"
            if mode.gpu_mask and here.gpu_mask and mode.gpu_mask != here.gpu_mask
            else ""
            for mode in self._modes
        }

    def current(self) -> str:
        """See `ports.PowerModes`."""
        found = self._query()
        if not found:
            raise PowerError(
                "nvpmodel reports no power mode", code="power_mode", hint="`nvpmodel -q`"
            )
        return found

    @contextlib.contextmanager
    def set_temporarily(self, name: str) -> Iterator[None]:
        """See `ports.PowerModes`."""
        found = self.current()
        if found != name:
            make_folder(self._marker.parent)
            write_atomically(self._marker, found.encode(), mode=READABLE)
            self._set(name)
        try:
            yield
            seen = self.current()
            if seen != name:
                raise PowerError(
                    f"the power mode changed from {name} to {seen} meanwhile",
                    code="power_mode",
                    hint="something else on this device sets power modes",
                )
        finally:
            if found != name:
                self._set(found)
                self._marker.unlink(missing_ok=True)

    def restore(self) -> str:
        """See `ports.PowerModes`."""
        wanted = text_of(self._marker)
        if wanted and wanted != self.current():
            self._set(wanted)
        self._marker.unlink(missing_ok=True)
        return wanted

    def _query(self) -> str:
        found = re.search(r"NV Power Mode: *(\S.*\S|\S)", _output(["nvpmodel", "-q"]))
        return found.group(1) if found else ""

    def _set(self, name: str) -> None:
        mode = next((m for m in self._modes if m.name == name), None)
        if mode is None:
            raise PowerError(
                f"there is no power mode {name}",
                code="power_mode",
                hint="there are " + ", ".join(m.name for m in self._modes),
            )
        if os.geteuid() == 0:
            command = ["nvpmodel", "-m", str(mode.number)]
        else:
            command = [sys.executable, "-m", "agent.adapters.power.jtop_mode", name, self._socket]
        output = _output(command)
        deadline = time.monotonic() + _READ_BACK_S
        while self._query() != name:  # nvpmodel and jtop fail without an error
            if time.monotonic() > deadline:
                raise PowerError(
                    f"power mode {name} was not set: {output[-200:] or 'no reason given'}",
                    code="power_mode",
                    hint=f"`sudo nvpmodel -m {mode.number}` shows why; users other than root need "
                    "the jtop service and its group",
                )
            time.sleep(0.2)


def _output(command: list[str]) -> str:
    """Return what a command prints; stdin is closed, so that a prompt does not wait."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return done.stdout.strip()
