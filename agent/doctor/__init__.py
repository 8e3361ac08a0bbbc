"""What a machine needs for quantd, looked at one by one, each with what mends it."""

from __future__ import annotations

from collections.abc import Mapping

from agent.config import Config
from agent.core.errors import QuantdError
from agent.doctor import broker, device, measuring, needs, system
from agent.doctor.findings import Finding, Look

_CURES = {
    "runtime": "`pip install 'quantd[cpu]'`; on a Jetson `apt install python3-libnvinfer`",
    "model": "set model.path to an ONNX file, or pass --model your.onnx",
    "camera": "check camera.uri, or pass --camera URI",
    "storage": "set storage.dir to a folder you may write",
    "power sensor": 'set measure.power = "auto"',
    "broker": "check mqtt.host, mqtt.port and the network",
    "board": "set device.board to one of configs/boards",
}  # where the error itself has no hint
_ANYWHERE = "run it again as the user that runs quantd"

LOOKS: Mapping[str, Look] = {
    **device.LOOKS,
    **measuring.LOOKS,
    **needs.LOOKS,
    **broker.LOOKS,
    **system.LOOKS,
}
"""What is looked at, in the order in which it is told."""


def examine(config: Config, looks: Mapping[str, Look] | None = None) -> list[Finding]:
    """Look at everything; nothing is changed and a failed look is a finding, not an error.

    Args:
        config: What the machine is to be used for.
        looks: What to look at; everything if not given.

    Returns:
        What there is to say about this machine; looks that don't concern it say nothing.
    """
    found = [
        _look(config, what, look) for what, look in (LOOKS if looks is None else looks).items()
    ]
    return [one for one in found if one is not None]


def _look(config: Config, what: str, look: Look) -> Finding | None:
    try:
        return look(config)
    except QuantdError as error:
        seen, cure = error.message, error.hint
    except ImportError as error:
        seen, cure = f"a library is missing: {error}", "`pip install 'quantd[cpu]'`"
    except (OSError, ValueError) as error:  # ValueError: a file that does not hold what it should
        seen, cure = str(error), ""
    cure = cure or _CURES.get(what, _ANYWHERE)
    return Finding(level="problem", what=what, seen=seen, cure=cure)


__all__ = ["LOOKS", "Finding", "Look", "examine"]
