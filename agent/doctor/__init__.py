"""`quantd doctor`: checks of this machine and configuration, each with how to fix what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.config import Config
from agent.core.errors import QuantdError
from agent.doctor import application, broker, device, measuring, needs, system
from agent.doctor.findings import Check, Finding, problem
from agent.packages import import_hint

_CURES = {
    "runtime": 'set runtime.kind = "onnxruntime", which executes on any CPU',
    "model": "set model.path to an ONNX file, or pass --model your.onnx",
    "camera": "check camera.uri, or pass --camera URI",
    "storage": "set storage.dir to a folder that you can write to",
    "power sensor": 'set measure.power = "auto"',
    "broker": "check mqtt.host, mqtt.port and the network",
    "board": "set device.board to one of configs/boards",
}  # for errors without a hint
_ANY_CURE = "run it again as the user that runs quantd"

CHECKS: Mapping[str, Check] = {
    "board": device.board,
    "JetPack": device.jetpack,
    "TensorRT": device.tensorrt,
    "groups": device.groups,
    "jtop": measuring.jtop,
    "clocks": measuring.clocks,
    "runtime": needs.runtime,
    "model": needs.model,
    "camera": needs.camera,
    "storage": needs.storage,
    "power sensor": needs.power,
    "broker": broker.broker,
    "memory": system.memory,
    "swap": system.swap,
    "time": system.time,
    "service": system.service,
    "application": application.application,
    "commands": system.commands,
}
"""All checks, in the order of the output."""


def examine(config: Config, checks: Mapping[str, Check] | None = None) -> list[Finding]:
    """Run all checks; nothing is changed, and a check that fails is a finding, not an error.

    Args:
        config: The effective configuration.
        checks: The checks to run; all if not given.

    Returns:
        One finding for each check that applies.
    """
    found = []
    for what, check in (CHECKS if checks is None else checks).items():
        try:
            one = check(config)
        except QuantdError as error:
            one = problem(error.message, error.hint)
        except ImportError as error:
            one = problem(f"a library is missing: {error}", import_hint(error))
        except (OSError, ValueError) as error:  # ValueError: a file with unexpected content
            one = problem(str(error), "")
        if one:
            cure = one.cure or ("" if one.level == "ok" else _CURES.get(what, _ANY_CURE))
            found.append(replace(one, what=what, cure=cure))
    return found
