"""The fleet's metrics as OpenMetrics text, written by hand: a library takes 13 times as long.

Names, units and types as Prometheus recommends; labels are bounded: a device's name and what it is,
never free text. Figures have the label `device` alone, joined by
`* on(device) group_left(precision) quantd_device_info`.

Source: OpenMetrics 1.0.0, section 4; prometheus.io/docs/practices/naming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from agent.core.fleet.devices import Counts, Device, Worker
from agent.fleet.figures import numbers

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_LABEL = 64  # characters
_QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A column of devices as a metric; its unit is the base unit, `scale` of ours."""

    name: str
    column: str
    help: str
    scale: float = 1.0


FIGURES = (
    Figure(name="latency_p50_seconds", column="latency_p50_ms", help="Median latency, as reported.", scale=1e-3),
    Figure(name="latency_p99_seconds", column="latency_p99_ms", help="p99 of the latency, as reported.", scale=1e-3),
    Figure(name="power_watts", column="power_w", help="Mean power, as reported."),
    Figure(name="energy_joules", column="energy_j", help="Energy per inference, as reported."),
    Figure(name="agreement_ratio", column="agreement", help="Agreement with FP32, as reported."),
    Figure(name="sqnr_decibels", column="sqnr_db", help="SQNR against FP32, as reported."),
)  # fmt: skip
_LIVE = (
    Figure(name="temperature_celsius", column="temp_c", help="Hottest thermal zone."),
    Figure(name="memory_free_bytes", column="memory_free_mb", help="Memory that is free.", scale=1e6),
    Figure(name="disk_free_bytes", column="disk_free_mb", help="Space that is free.", scale=1e6),
)  # fmt: skip


def fleet_metrics(counts: Counts, workers: Sequence[Worker]) -> Iterator[str]:
    """Yield the lines that every fleet has, few whatever its size."""
    yield from _family(
        "quantd_fleet_devices", "gauge", "Devices that were ever heard.", [({}, counts.devices)]
    )
    yield from _family(
        "quantd_fleet_status_devices", "gauge", "Devices by their state.",
        [({"status": status}, n) for status, n in counts.by.get("status", {}).items()],
    )  # fmt: skip
    yield from _family(
        "quantd_fleet_attention_devices", "gauge", "Devices that need attention, by reason.",
        [({"reason": reason}, n) for reason, n in counts.attention.items()],
    )  # fmt: skip
    for name, help_ in (
        ("stored", "Messages stored."),
        ("duplicates", "Messages that were stored before."),
        ("quarantined", "Messages that could not be stored."),
    ):
        yield from _family(
            f"quantd_worker_{name}", "counter", help_,
            [({"worker": one.name}, getattr(one, name)) for one in workers],
        )  # fmt: skip


def group_metrics(devices: Iterable[Device]) -> Iterator[str]:
    """Yield counts and quantiles by model, precision and board, whatever the number of devices."""
    groups: dict[tuple[str, str, str], list[Device]] = {}
    for one in devices:
        groups.setdefault((one.model, one.precision, one.board), []).append(one)
    named = [
        ({"model": model, "precision": precision, "board": board}, its)
        for (model, precision, board), its in sorted(groups.items())
    ]
    yield from _family(
        "quantd_group_devices", "gauge", "Devices by model, precision and board.",
        [(labels, len(its)) for labels, its in named],
    )  # fmt: skip
    for figure in FIGURES:
        samples: list[tuple[dict[str, str], float]] = []
        for labels, its in named:
            values = sorted(
                value for one in its if (value := getattr(one, figure.column)) is not None
            )
            samples += [
                ({**labels, "quantile": f"{q:g}"}, values[min(int(q * len(values)), len(values) - 1)] * figure.scale)
                for q in _QUANTILES
                if values
            ]  # fmt: skip
        yield from _family(f"quantd_group_{figure.name}", "summary", figure.help, samples)


def device_metrics(devices: Sequence[Device]) -> Iterator[str]:
    """Yield the lines of each device."""
    yield from _family(
        "quantd_device_info", "gauge", "What a device is and runs; always 1.",
        [
            ({"device": one.name, "model": one.model, "precision": one.precision, "board": one.board,
              "jetpack": one.jetpack, "release": one.release}, 1)
            for one in devices
        ],
    )  # fmt: skip
    yield from _family(
        "quantd_device_up", "gauge", "1 if it is online and was heard within 5 minutes.",
        [({"device": one.name}, int(one.status == "online" and "silent" not in one.attention)) for one in devices],
    )  # fmt: skip
    yield from _family(
        "quantd_device_last_seen_timestamp_seconds", "gauge", "When it was last heard.",
        [({"device": one.name}, one.seen_ms / 1000) for one in devices if one.seen_ms],
    )  # fmt: skip
    yield from _family(
        "quantd_device_missing_messages", "gauge", "Messages that are missing in its streams.",
        [({"device": one.name}, one.missing) for one in devices],
    )  # fmt: skip
    yield from _family(
        "quantd_device_quarantined", "counter", "Its messages that could not be stored.",
        [({"device": one.name}, one.quarantined) for one in devices],
    )  # fmt: skip
    for figure in FIGURES:
        yield from _family(
            f"quantd_device_{figure.name}", "gauge", figure.help,
            [
                ({"device": one.name}, value * figure.scale)
                for one in devices
                if (value := getattr(one, figure.column)) is not None
            ],
        )  # fmt: skip
    live = [(one.name, numbers(one.figures)) for one in devices]
    for figure in _LIVE:
        yield from _family(
            f"quantd_device_{figure.name}", "gauge", figure.help,
            [
                ({"device": name}, found[figure.column] * figure.scale)
                for name, found in live
                if figure.column in found
            ],
        )  # fmt: skip


def _family(
    name: str, kind: str, help_: str, samples: Sequence[tuple[dict[str, str], float]]
) -> Iterator[str]:
    """Yield a metric family; the unit is the last word of its name, of info it is none."""
    yield f"# HELP {name} {help_}"
    yield f"# TYPE {name} {kind}"
    suffix = "_total" if kind == "counter" else ""
    for labels, value in samples:
        if isfinite(value):
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield (
                f"{name}{suffix}{{{shown}}} {value:.9g}" if shown else f"{name}{suffix} {value:.9g}"
            )


def _escaped(text: str) -> str:
    return text[:_LABEL].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
