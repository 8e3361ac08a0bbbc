"""The figures of telemetry, by their names: what the device sends, schemas and consoles derive.

The unit ends each name where it has one. The model's figures are those that the last report has of
the release in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from agent.core.report.figures import at

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of telemetry.

    Attributes:
        title: For people, as a column or a sensor.
        unit: "" of a share, a number of things, or a switch.
        counts: Whether it only grows, from the daemon's start on unless `about` differs.
        about: What the title leaves out.
        place: Where the report has it: keys from the candidate on, see `reported_row`.
        reason: Where the report has the reason why it is null.
    """

    title: str
    unit: str = ""
    counts: bool = False
    about: str = ""
    place: str = ""
    reason: str = ""


MODEL_METRICS = {
    "latency_p50_ms": Metric(
        title="latency p50", unit="ms", about="of an inference", place="measured.latency_ms.p50"
    ),
    "latency_p99_ms": Metric(
        title="latency p99", unit="ms", about="of an inference", place="measured.latency_ms.p99"
    ),
    "throughput_fps": Metric(title="throughput", unit="FPS", place="measured.throughput_fps"),
    "power_w": Metric(
        title="power", unit="W", about="mean", place="load.power_w.mean", reason="load.power_reason"
    ),
    "energy_j": Metric(
        title="energy per frame", unit="J", place="load.energy_j", reason="load.energy_reason"
    ),
    "memory_mb": Metric(
        title="engine memory",
        unit="MB",
        about="of engine and runtime",
        place="measured.memory_mb",
        reason="measured.memory_reason",
    ),
    "sqnr_db": Metric(
        title="SQNR",
        unit="dB",
        about="against FP32, of the worst group of channels; null for FP32 itself",
        place="fidelity.sqnr_db",
        reason="fidelity.sqnr_reason",
    ),
    "agreement": Metric(
        title="agreement with FP32",
        about="0 to 1, by the task's metric",
        place="fidelity.agreement",
        reason="fidelity.agreement_reason",
    ),
    "int8_macs_fraction": Metric(
        title="INT8 share", about="0 to 1, of the multiplications", place="int8_macs_fraction"
    ),
}
METRICS = {
    **MODEL_METRICS,
    "report_age_s": Metric(
        title="report age", unit="s", about="of the report that has the model's figures"
    ),
    "release_age_s": Metric(title="release age", unit="s", about="since the active one was made"),
    "runs_succeeded": Metric(title="runs succeeded", counts=True, about="since the journal began"),
    "runs_failed": Metric(
        title="runs failed",
        counts=True,
        about="since the journal began; timed out and rolled back ones included",
    ),
    "job_percent": Metric(
        title="progress", unit="%", about="of the stage that runs; null while idle"
    ),
    "rss_mb": Metric(title="daemon memory", unit="MB"),
    "cpu_percent": Metric(title="daemon CPU", unit="%", about="of one core"),
    "uptime_s": Metric(title="uptime", unit="s", about="of the machine"),
    "memory_free_mb": Metric(title="free memory", unit="MB", about="available to processes"),
    "disk_free_mb": Metric(title="free disk", unit="MB", about="where storage.dir is"),
    "temp_c": Metric(title="temperature", unit="°C", about="of the hottest thermal zone"),
    "broker_silences": Metric(title="connections that nothing was acknowledged on", counts=True),
    "certificates_refused": Metric(title="connections refused for the certificate", counts=True),
    "commands_misaddressed": Metric(title="commands on a topic without an id", counts=True),
    "credentials_unusable": Metric(title="connections without usable credentials", counts=True),
    "messages_evicted": Metric(title="messages given up on the device", counts=True),
    "messages_parked": Metric(title="messages that the broker refused for good", counts=True),
    "messages_unheard": Metric(title="messages without a subscriber", counts=True),
    "packets_refused": Metric(title="packets of the broker above the limit", counts=True),
    "refusals_unanswered": Metric(title="refused commands beyond the limit", counts=True),
    "sessions_taken_over": Metric(title="connections taken over by another client", counts=True),
    "subscriptions_refused": Metric(title="subscriptions that the broker refused", counts=True),
}


def reported_row(report: Mapping[str, Any], candidate: str) -> Row:
    """Return a candidate of a report, with what its power is judged by as `load`.

    Args:
        report: As in report.json; keys that an earlier version did not write may be absent.
        candidate: Its id.

    Returns:
        The row; empty if the report does not have it.
    """
    rows = at(report, "candidates")
    rows = rows if isinstance(rows, (list, tuple)) else ()
    found = next((one for one in rows if at(one, "id") == candidate), None)
    if found is None:
        return {}
    return {**found, "load": at(found, "measured.at_rate") or at(found, "measured")}


def number(row: Row, place: str) -> float | None:
    """Return the finite number at a place of a row, None if there is none."""
    found = at(row, place)
    known = isinstance(found, (int, float)) and not isinstance(found, bool) and isfinite(found)
    return float(found) if known else None


def model_figures(row: Row) -> dict[str, float | None]:
    """Return the model's figures by their names in telemetry, from a `reported_row`."""
    return {name: number(row, metric.place) for name, metric in MODEL_METRICS.items()}
