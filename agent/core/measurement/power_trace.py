"""Power samples from the first to the last window of a measurement, for a plot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.measurement.power import PowerSample
from agent.core.measurement.recording import Recording, Span
from agent.core.records import PowerTrace, PowerWindow

_BUCKETS = 800  # along the plot; each shows its lowest and its highest reading
IDLE, FLAT_OUT, AT_RATE = "idle", "flat out", "at rate"


def power_trace(
    samples: Sequence[PowerSample], idle_ns: Span | None, seen: Mapping[str, Recording]
) -> PowerTrace:
    """Return the downsampled power of a measurement with its windows.

    Args:
        samples: In order of time.
        idle_ns: When the machine was at rest, if it was.
        seen: Recordings by candidate.
    """
    windows = [_window("", IDLE, idle_ns)] if idle_ns else []
    for name, one in seen.items():
        windows += [_window(name, FLAT_OUT, span) for span in one.windows_ns]
        windows += [_window(name, AT_RATE, span) for span in one.paced_windows_ns]
    if not windows:
        return PowerTrace()
    windows.sort(key=lambda window: window.begin_s)
    begin_s, end_s = windows[0].begin_s, max(window.end_s for window in windows)
    points = [(one.t_ns / 1e9, one.power_w) for one in samples]
    inside = [point for point in points if begin_s <= point[0] <= end_s]
    return PowerTrace(points=downsampled(inside), windows=tuple(windows))


def _window(candidate: str, kind: str, span: Span) -> PowerWindow:
    return PowerWindow(candidate=candidate, kind=kind, begin_s=span[0] / 1e9, end_s=span[1] / 1e9)


def downsampled(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return at most 1600 points in order: the lowest and highest of each bucket."""
    step = -(-len(points) // _BUCKETS) or 1
    if step <= 2:
        return tuple(points)
    kept = []
    for at in range(0, len(points), step):
        stretch = points[at : at + step]
        ends = min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])
        kept += sorted(set(ends))
    return tuple(kept)
