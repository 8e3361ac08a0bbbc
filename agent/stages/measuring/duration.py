"""How long the windows of the measure stage are."""

from __future__ import annotations

import msgspec

from agent.config import Measure
from agent.core.choice.candidates import DECIDING_S, ENOUGH_SAMPLES

_SLOWEST_SENSOR_S = 1.0
"""Between samples: jtop at its default interval. The windows do not grow for a slower sensor, as
jtop is where another client owns its interval: too few samples are a flag."""
_SPARE = 1.2  # samples planned for each that is needed: jtop's are all late, some by much


def stretched(settings: Measure, period_s: float) -> Measure:
    """Return the protocol with windows long enough for a sensor whose readings decide.

    Args:
        settings: As configured.
        period_s: Of the sensor.
    """
    least_s = max(DECIDING_S, _SPARE * ENOUGH_SAMPLES * min(period_s, _SLOWEST_SENSOR_S))
    return msgspec.structs.replace(settings, duration_s=max(settings.duration_s, least_s))
