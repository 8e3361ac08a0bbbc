"""The verbs demo, optimize, run, activate, rollback."""

from __future__ import annotations

import argparse
import threading
from dataclasses import asdict
from pathlib import Path

from agent import config as configuration
from agent.core.records import Activation
from agent.terminal import ProgressBars, show, summary
from agent.verbs.interrupt import interruptible
from agent.verbs.options import (
    CAMERA,
    CONFIG,
    JSON,
    MODEL,
    OUTPUT,
    REUSE,
    RUNTIME,
    Verb,
    load,
    load_with_origin,
    option,
    print_json,
)
from agent.wiring import released, runs


def _demo(options: argparse.Namespace) -> int:
    from agent.demo.show import demo

    report = demo(
        Path(options.output).absolute(),
        window_s=options.window_s,
        duration_s=options.duration_s,
        agreement=options.agreement,
    )
    if options.json:
        print_json(report)
    return 3 if report["choice"]["infeasible"] else 0


def _optimize(options: argparse.Namespace) -> int:
    config = load(options)
    configuration.require_source(config)
    cancelled = threading.Event()
    with ProgressBars() as bars, interruptible(cancelled):
        finished = runs.optimize(
            config,
            trigger="command line",
            observe=bars.update,
            cancelled=cancelled,
            reuse_calibration=options.reuse_calibration,
        )
    if options.output:
        finished.export(Path(options.output))
    if options.json:
        print_json(finished.report)
    else:
        summary(
            asdict(finished.report),
            directory=Path(options.output or finished.directory),
            release=Path(config.storage.dir, "current"),
        )
    return 3 if finished.report.choice.infeasible else 0


def _run(options: argparse.Namespace) -> int:
    config, origin = load_with_origin(options)
    configuration.require_source(config)
    from agent.wiring.daemon import daemon

    return daemon(config, origin).run()


def _activate(options: argparse.Namespace) -> int:
    config = load(options)
    if options.release:
        done = released.activate_release(config, options.release)
    else:
        configuration.require_source(config)
        with ProgressBars() as bars:
            finished = runs.optimize(
                config,
                trigger="command line",
                observe=bars.update,
                cancelled=threading.Event(),
                run_id=runs.manual_run(config, new=False),
            )
        done = finished.report.activation
        if finished.report.choice.infeasible:
            _print(done, options)
            return 3
    return _print(done, options)


def _rollback(options: argparse.Namespace) -> int:
    return _print(released.roll_back(load(options)), options)


def _print(done: Activation, options: argparse.Namespace) -> int:
    if options.json:
        print_json(done)
    else:
        release = f": release {done.release}" if done.release else ""
        state = done.state.replace("_", " ")
        show(f"{state}{release}" + (f" ({done.detail})" if done.detail else ""))
    return 1 if done.state == "rolled_back" and options.name == "activate" else 0


DAILY = (
    Verb(
        name="demo",
        summary="run the whole job on this machine: real video, real model, real broker",
        run=_demo,
        options=(
            option("--output", metavar="DIR", default="quantd-demo", help="default: ./quantd-demo"),
            option(
                "--window-s", type=float, default=15.0, help="seconds of live camera (default: 15)"
            ),
            option(
                "--duration-s",
                type=float,
                default=6.0,
                help="seconds of measuring per candidate (default: 6)",
            ),
            option(
                "--agreement",
                type=float,
                default=0.95,
                help="fidelity limit: average precision of the engine's faces against those of "
                "FP32, 0 to 1 (default: 0.95)",
            ),
            JSON,
        ),
        example="quantd demo",
    ),
    Verb(
        name="optimize",
        summary="find the best engine in one run in the foreground, and activate it",
        run=_optimize,
        options=(CONFIG, MODEL, CAMERA, RUNTIME, REUSE, OUTPUT, JSON),
        example="quantd optimize -c quantd.toml --model faces.onnx --output result",
    ),
    Verb(
        name="run",
        summary="run the daemon: optimize on command and on schedule, report over MQTT",
        run=_run,
        options=(CONFIG,),
        example="quantd run -c /etc/quantd/quantd.toml",
    ),
    Verb(
        name="activate",
        summary="make a release current: the one named, or the choice of the last manual run",
        run=_activate,
        options=(
            option("release", nargs="?", help="id of an existing release"),
            CONFIG,
            MODEL,
            CAMERA,
            RUNTIME,
            JSON,
        ),
    ),
    Verb(
        name="rollback",
        summary="make the release before the current one current again",
        run=_rollback,
        options=(CONFIG, JSON),
    ),
)
