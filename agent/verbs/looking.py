"""The verbs that change nothing: status, report, doctor, check-config."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from agent import config as configuration
from agent.config import Config
from agent.core.errors import ConfigError, StoreError
from agent.core.frames.camera_uri import redacted
from agent.core.prediction.history import PastMeasurement
from agent.core.prediction.residuals import accuracy
from agent.core.release.unit_commands import refused_by_unit, unit_reload
from agent.terminal import show, summary, table
from agent.verbs.options import (
    CAMERA,
    CONFIGURED,
    JSON,
    MODEL,
    RUNTIME,
    Verb,
    load,
    load_with_origin,
    option,
    overridden,
    print_json,
)
from agent.wiring import reported, runs
from agent.wiring.credentials import unusable_file

_RUNS_NAMED = 5  # in the hint of an unknown run
_PREDICTIONS_SHOWN = 30
_INSIDE = {True: "inside", False: "OUTSIDE", None: ""}
_MARK = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}


def _status(options: argparse.Namespace) -> int:
    found = reported.status(load(options))
    if options.json:
        print_json(found)
        return 0
    table(["", ""], [[key, _plain(value)] for key, value in found.items()])
    return 0


def _report(options: argparse.Namespace) -> int:
    config = load(options)
    if options.predictions:
        return _predictions(config, as_json=options.json)
    folder = reported.last_report(config, options.run)
    if folder is None:
        which = f"of run {options.run} " if options.run else ""
        known = [one.name for one in reported.reports(config)[-_RUNS_NAMED:]]
        raise StoreError(
            f"no report {which}under {config.storage.dir}",
            code="no_report",
            hint=f"there are: {', '.join(known)}"
            if known
            else "`quantd optimize -c ...` makes one",
        )
    report = reported.read_report(folder)
    if options.json:
        print_json(report)
    else:
        summary(report, directory=folder, release=Path(config.storage.dir, "current"))
    return 0


def _predictions(config: Config, *, as_json: bool) -> int:
    """Show the errors of past predictions."""
    checked = [(past, one) for past in runs.history(config) if (one := past.check())]
    errors = accuracy([past for past, _ in checked])
    if as_json:
        print_json({"predictions": [past for past, _ in checked], "accuracy": errors})
        return 0
    if not checked:
        show("no prediction has been checked yet: each run checks its own")
        return 0
    table(
        ["when", "model", "precision", "batch", "from", "predicted ms", "measured ms", "off", ""],
        [
            [past.utc[:16], past.model[:8], past.precision, str(past.batch), past.source or "-",
             _predicted(past), f"{past.latency_p50_ms:.3f}",
             f"{one.off:+.1%}", _INSIDE[one.inside]]
            for past, one in checked[:_PREDICTIONS_SHOWN]
        ],
    )  # fmt: skip
    table(
        ["predicted", "from", "precision", "checked", "half within", "9 of 10 within",
         "in interval"],
        [
            [one.figure, one.source or "-", one.precision, str(one.count), f"{one.median_off:.1%}",
             f"{one.p90_off:.1%}", "-" if one.inside is None else f"{one.inside:.0%}"]
            for one in errors
        ],
    )  # fmt: skip
    show("an interval should contain nine of ten; its width comes from past errors")
    return 0


def _predicted(past: PastMeasurement) -> str:
    if past.low_ms is None or past.high_ms is None:
        return f"{past.predicted_ms:.3f}"
    return f"{past.predicted_ms:.3f} [{past.low_ms:.3f}, {past.high_ms:.3f}]"


def _doctor(options: argparse.Namespace) -> int:
    from agent.doctor import examine

    findings = examine(_for_doctor(options))
    if not options.config:  # the machine alone
        asked = {"model": options.model, "camera": options.camera}
        findings = [one for one in findings if asked.get(one.what, one.what)]
    if options.json:
        print_json(findings)
    else:
        table(
            ["", "check", "found", "how to fix it"],
            [[_MARK[f.level], f.what, f.seen, f.cure] for f in findings],
        )
    return 1 if any(f.level == "problem" for f in findings) else 0


def _for_doctor(options: argparse.Namespace) -> Config:
    """Return the configuration; its defaults with the options if there is no file."""
    try:
        return load(options)
    except ConfigError as error:
        if error.code != "no_config":
            raise
    given = {key: (value, "command line") for key, value in overridden(options).items()}
    return configuration.from_settings(given)[0]


def _check_config(options: argparse.Namespace) -> int:
    config, origin = load_with_origin(options)
    for key in configuration.without_effect(config, origin):
        show(f"note: {key} is set, but has no effect")
    for key in ("reload", "health"):
        if reason := refused_by_unit(getattr(config.activation, key)):
            show(f"note: activation.{key}: {reason}; {unit_reload(sys.prefix)}")
    for words in configuration.doubts(config, origin):
        show(f"note: {words}")
    unusable = unusable_file(config)
    if unusable:
        show(f"note: {unusable}; the daemon waits for it, without a connection")
    values = configuration.dump(config)
    values["camera"]["uri"] = redacted(config.camera.uri)
    if options.json:
        print_json({"config": values, "origin": origin, "floor": config.requirements.floor})
        return 0
    for key, value in configuration.flatten(values).items():
        sys.stdout.write(f"{key} = {json.dumps(value)}    # {origin.get(key, 'default')}\n")
    floor = config.requirements.floor
    if floor:
        key = f"limits.{floor.limit}"
        sys.stdout.write(
            f"# fidelity floor: {key} = {floor.bound:g}    # {origin.get(key, 'default')}\n"
        )
    if not (config.model.path and config.camera.uri):
        show("note: model.path and camera.uri have no default; a run needs both")
    return 0


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {what}" for key, what in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


LOOKING = (
    Verb(
        name="status",
        summary="show the active release, the last run and the messages that wait to be sent",
        run=_status,
        options=(*CONFIGURED, JSON),
    ),
    Verb(
        name="report",
        summary="show the report of the last run, or of the one named",
        run=_report,
        options=(
            option("run", nargs="?", help="id of a run (default: the last one)"),
            option(
                "--predictions", action="store_true", help="show the errors of past predictions"
            ),
            *CONFIGURED,
            JSON,
        ),
    ),
    Verb(
        name="doctor",
        summary="check this machine: runtime, camera, disk, broker, power sensor",
        run=_doctor,
        options=(*CONFIGURED, MODEL, CAMERA, RUNTIME, JSON),
    ),
    Verb(
        name="check-config",
        summary="show what a configuration means and where each value comes from",
        run=_check_config,
        options=(*CONFIGURED, MODEL, CAMERA, JSON),
    ),
)
