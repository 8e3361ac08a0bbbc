"""The verbs demo, optimize, run, activate, rollback, pin."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from agent import config as configuration
from agent.config import Config
from agent.core.errors import ConfigError
from agent.core.records import Activation
from agent.terminal import ProgressBars, show, summary
from agent.verbs.interrupt import in_turn
from agent.verbs.locating import has_config
from agent.verbs.options import (
    CAMERA,
    CONFIGURED,
    FAST,
    JSON,
    MODEL,
    NO_WAIT,
    OUTPUT,
    REUSE,
    RUNTIME,
    Verb,
    load,
    load_with_origin,
    option,
    print_json,
)
from agent.verbs.setup import is_configured_here, without_file
from agent.verbs.stated import STATED, stated
from agent.wiring import released, runs, storage
from agent.wiring.exclusive import only_daemon


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
    if report["choice"]["infeasible"]:
        return 3
    return 4 if report["activation"]["state"] == "rolled_back" else 0


def _optimize(options: argparse.Namespace) -> int:
    config, origin = _configured(options)
    configuration.require_source(config)
    with in_turn(config, options) as cancelled, ProgressBars() as bars:
        finished = runs.optimize(
            config,
            origin=origin,
            trigger="command line",
            observe=bars.update,
            warn=bars.warn,
            cancelled=cancelled,
            reuse_calibration=options.reuse_calibration,
            announce=bars.announce,
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
    return 3 if finished.report.choice.infeasible else _exit_code(finished.report.activation)


def _configured(options: argparse.Namespace) -> tuple[Config, dict[str, str]]:
    """Return the configuration, of a file or else of the model, and the origin of each key."""
    if options.file and options.model:
        raise ConfigError("both MODEL and --model are given", code="usage", hint="keep one of them")
    if options.model and not has_config(options):
        options.file, options.model = options.model, None
    if options.file and not options.config and not is_configured_here(options.file):
        return without_file(options)
    options.model = options.model or options.file
    return load_with_origin(options, {one.key: one.value for one in stated(options).values()})


def _run(options: argparse.Namespace) -> int:
    config, origin = load_with_origin(options)
    configuration.require_source(config)
    from agent.wiring.daemon import daemon

    with only_daemon(config):
        return daemon(config, origin).run()


def _activate(options: argparse.Namespace) -> int:
    config, origin = load_with_origin(options)
    if options.release:
        run_id = storage.RunIds(config).next()
        with in_turn(config, options, run_id) as cancelled:
            done = released.activate_release(
                config, options.release, run_id=run_id, cancelled=cancelled
            )
        return _print(done, options)
    configuration.require_source(config)
    with in_turn(config, options) as cancelled, ProgressBars() as bars:
        run_id = runs.manual_run(config, new=False)
        finished = runs.optimize(
            config,
            origin=origin,
            trigger="command line",
            observe=bars.update,
            warn=bars.warn,
            cancelled=cancelled,
            run_id=run_id,
            again=True,
            announce=bars.announce,
        )
    code = _print(finished.report.activation, options)
    return 3 if finished.report.choice.infeasible else code


def _rollback(options: argparse.Namespace) -> int:
    config = load(options)
    run_id = storage.RunIds(config).next()
    with in_turn(config, options, run_id) as cancelled:
        done = released.roll_back(config, run_id=run_id, cancelled=cancelled)
    return _print(done, options)


def _pin(options: argparse.Namespace) -> int:
    storage.releases(load(options)).pin(options.release, pinned=not options.remove)
    return 0


def _print(done: Activation, options: argparse.Namespace) -> int:
    if options.json:
        print_json(done)
    else:
        release = f": release {done.release}" if done.release else ""
        state = done.state.replace("_", " ")
        show(f"{state}{release}" + (f" ({done.detail})" if done.detail else ""))
    return _exit_code(done)


def _exit_code(done: Activation) -> int:
    return 4 if done.state == "rolled_back" else 0


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
        options=(
            option(
                "file",
                metavar="MODEL",
                nargs="?",
                help="the ONNX file; without -c, what it states is the configuration and "
                "./quantd-MODEL has the state",
            ),
            *CONFIGURED,
            MODEL,
            CAMERA,
            *STATED,
            RUNTIME,
            FAST,
            REUSE,
            OUTPUT,
            NO_WAIT,
            JSON,
        ),
        example="quantd optimize yolo11n.onnx --camera v4l2:///dev/video0",
    ),
    Verb(
        name="run",
        summary="run the daemon: optimize on command and on schedule, report over MQTT",
        run=_run,
        options=CONFIGURED,
        example="quantd run -c /etc/quantd/quantd.toml",
    ),
    Verb(
        name="activate",
        summary="make a release current: the one named, or the choice of the last manual run",
        run=_activate,
        options=(
            option("release", nargs="?", help="id of an existing release"),
            *CONFIGURED,
            MODEL,
            CAMERA,
            RUNTIME,
            NO_WAIT,
            JSON,
        ),
    ),
    Verb(
        name="rollback",
        summary="roll back to the newest good release that is not the current one",
        run=_rollback,
        options=(*CONFIGURED, NO_WAIT, JSON),
    ),
    Verb(
        name="pin",
        summary="keep a release: it is never removed",
        run=_pin,
        options=(
            option("release", help="id of an existing release"),
            option("--remove", action="store_true", help="remove it again when its time comes"),
            *CONFIGURED,
        ),
    ),
)
