"""The verb init, and the configuration of `optimize MODEL` without a file."""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import config as configuration
from agent.config import Config
from agent.config.toml import read_toml
from agent.core.errors import ConfigError
from agent.core.frames.camera_uri import camera_kind, redacted
from agent.core.frames.pixels import PIXELS, PixelPreset
from agent.core.report.wording import escape_unprintable
from agent.core.setup.facts import CameraFacts
from agent.core.setup.settings import PIXEL_KEYS, Missing, Setting, Setup
from agent.core.setup.setup import set_up
from agent.core.setup.writing import spelled, toml
from agent.disk import PRIVATE, READABLE, disk_errors, make_folder, write_atomically
from agent.terminal import show, table
from agent.verbs.interrupt import interruptible
from agent.verbs.locating import HERE
from agent.verbs.options import CAMERA, JSON, Verb, option, overridden, print_json
from agent.verbs.stated import STATED, parsed, stated
from agent.wiring.looking import look_at, look_into, look_under

_SHOWN = 60  # characters of a value on the terminal
_PAGE = "quantd-look.html"
_WRITTEN = "# Written by `quantd optimize"
_ASKED = {
    "model.input.pixels": "pixels",
    "model.input.width": "size",
    "model.input.layout": "layout",
}
"""The option that answers a question, by the key that is missing."""


def _init(options: argparse.Namespace) -> int:
    target = Path(options.output)
    if target.exists():
        raise ConfigError(
            f"{target} exists already", hint="remove it, or write another with --output FILE"
        )
    if options.camera:
        camera_kind(options.camera)
    elif options.look:
        raise ConfigError("--look needs a camera", code="usage", hint="add --camera URI")
    given, command = stated(options), f"quantd init {options.file}"
    cancelled = threading.Event()
    with interruptible(cancelled):
        facts = look_into(options.file, cancelled)
        setup = set_up(facts, given)
        camera = look_at(options.camera, cancelled) if options.camera else None
        page = _looked(options, setup, cancelled) if options.look else None
    if not options.json:
        _show(setup, camera)
        if page:
            show(f"wrote {page}: one frame under each choice of pixels")
    if setup.missing and sys.stdin.isatty() and sys.stderr.isatty() and not options.json:
        setup = set_up(facts, {**given, **_answers(setup.missing)})
    if setup.missing and page:
        return _to_be_chosen(options, page, setup, command)
    _refuse_missing(setup.missing, command)
    settings = [*_sources(options, target.absolute().parent, camera), *setup.settings]
    folder = Setting(
        key="storage.dir", value=state_name(options.file), origin="state of runs, beside this file"
    )
    _checked([*settings, folder])
    text = toml(
        [*settings, folder],
        heading=f"Written by `quantd init {Path(options.file).name}`.",
        notes=setup.notes,
    )
    secret = redacted(options.camera or "") != (options.camera or "")
    with disk_errors(target.absolute().parent):
        write_atomically(target, text.encode(), mode=PRIVATE if secret else READABLE)
    if options.json:
        print_json({"file": str(target), "settings": setup.settings, "notes": setup.notes,
                    "camera": camera, "look": page and str(page)})  # fmt: skip
    else:
        show(f"wrote {target}")
        chosen = "" if target == Path(HERE) else f" -c {target}"
        show(f"next: quantd optimize{chosen}{'' if options.camera else ' --camera URI'}")
    return 0


def _looked(options: argparse.Namespace, setup: Setup, cancelled: threading.Event) -> Path:
    """Write the page with a frame under each choice of pixels."""
    _refuse_missing(
        [one for one in setup.missing if one.key not in PIXEL_KEYS], f"quantd init {options.file}"
    )
    height, width = setup.size
    known = {one.key: (one.value, one.origin) for one in setup.settings}
    pixels = {key: known.pop(key)[0] for key in PIXEL_KEYS & known.keys()}
    known |= {"model.input.width": (width, ""), "model.input.height": (height, "")}
    for one in _sources(options, None, None):
        known[one.key] = (one.value, one.origin)
    config, _ = configuration.from_settings(known)
    page = Path(options.output).absolute().with_name(_PAGE)
    text = look_under(config, _choices(config, pixels), cancelled)
    with disk_errors(page.parent):
        write_atomically(page, text.encode(), mode=PRIVATE)
    return page


def _choices(config: Config, stated_pixels: Mapping[str, Any]) -> dict[str, PixelPreset]:
    """Return the choices of pixels that an input can take, and what was stated if it is another."""
    table = config.model.input
    if table.dtype == "uint8":
        return {"0..255": PIXELS["0..255"]}
    found = {
        f"--pixels {name}": preset
        for name, preset in PIXELS.items()
        if not (preset.color and table.color == "GRAY")
    }
    values = {key.rpartition(".")[2]: value for key, value in stated_pixels.items()}
    if "pixels" not in values and values:
        found["as stated"] = PixelPreset(**values)
    return found


def _to_be_chosen(options: argparse.Namespace, page: Path, setup: Setup, command: str) -> int:
    """Report that the page is to be looked at first: nothing is guessed, and nothing else written."""
    if options.json:
        print_json({"file": None, "look": str(page), "settings": setup.settings,
                    "notes": setup.notes, "missing": setup.missing})  # fmt: skip
    else:
        show(f"next: open it, then `{command} --camera URI` with the --pixels that is right")
    return 0


def without_file(options: argparse.Namespace) -> tuple[Config, dict[str, str]]:
    """Return the configuration of a model file and the options, and the origin of each key.

    It is written to the state folder too, for later commands.

    Raises:
        ConfigError: "missing" if a value must not be guessed, naming the option that states it.
    """
    cancelled = threading.Event()
    with interruptible(cancelled):
        setup = set_up(look_into(options.file, cancelled), stated(options))
    missing = list(setup.missing)
    if not options.camera:
        missing.append(Missing(key="camera.uri", what="the camera", option="--camera URI"))
    _refuse_missing(missing, f"quantd optimize {options.file}")
    _show(setup, None)
    folder = Path(options.state or state_name(options.file)).absolute()
    target = folder / HERE
    if target.is_file() and not target.read_bytes().startswith(_WRITTEN.encode()):
        raise ConfigError(
            f"{target} is a configuration of your own",
            hint=f"`quantd optimize -c {target}` runs it; --state DIR takes another folder",
        )
    settings = [*_sources(options, None, None), *setup.settings]
    known = {one.key for one in settings}
    settings += [
        Setting(key=key, value=value, origin="command line")
        for key, value in overridden(options).items()
        if key not in known
    ]
    place = Setting(key="storage.dir", value=".", origin="the folder of this file")
    found = _checked([*settings, replace(place, value=str(folder))])
    text = toml(
        [*settings, place],
        heading=f"{_WRITTEN[2:]} {Path(options.file).name}`, and again by the next.",
        notes=setup.notes,
    )
    with disk_errors(folder.parent):
        make_folder(folder)
        write_atomically(target, text.encode(), mode=PRIVATE)
    options.config = str(target)
    place_here = os.path.relpath(folder)
    show(f"state in {place_here}; later: quantd status --state {place_here}, and report, rollback")
    return found


def is_configured_here(model: str) -> bool:
    """Return whether ./quantd.toml is the configuration of a model file."""
    here = Path(HERE)
    table = read_toml(here).get("model") if here.is_file() else None
    path = table.get("path") if isinstance(table, dict) else None
    return isinstance(path, str) and Path(path).absolute() == Path(model).absolute()


def state_name(model: str) -> str:
    """Return the name of the folder for the state of a model's runs."""
    return "quantd-" + (re.sub(r"[^A-Za-z0-9._-]", "-", Path(model).stem) or "model")


def _sources(
    options: argparse.Namespace, folder: Path | None, camera: CameraFacts | None
) -> list[Setting]:
    """Return the camera and the model; its path is relative to a folder that contains it."""
    found = []
    if options.camera:
        origin = "--camera" + (f", {_seen(camera)}" if camera else "")
        found.append(Setting(key="camera.uri", value=options.camera, origin=origin))
    path = Path(options.file).absolute()
    if folder and path.is_relative_to(folder):
        path = path.relative_to(folder)
    found.append(Setting(key="model.path", value=str(path), origin="the model given"))
    return found


def _checked(settings: Sequence[Setting]) -> tuple[Config, dict[str, str]]:
    return configuration.from_settings({one.key: (one.value, one.origin) for one in settings})


def _refuse_missing(missing: Sequence[Missing], command: str) -> None:
    if missing:
        raise ConfigError(
            "not in the file, and never guessed: " + "; ".join(one.what for one in missing),
            code="missing",
            hint=f"repeat `{command}` with " + "; and ".join(one.option for one in missing),
        )


def _answers(missing: Sequence[Missing]) -> Mapping[str, Setting]:
    """Ask for what is missing, on the terminal."""
    found: dict[str, Setting] = {}
    for one in missing:
        name = _ASKED[one.key]
        show(f"not in the file, and never guessed: {one.what}")
        while True:
            sys.stderr.write(f"{one.option}\n--{name} ")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise ConfigError(f"no answer: {one.what}", code="missing", hint=one.option)
            try:
                values = parsed(name, line.strip())
                _checked([Setting(key=k, value=v, origin="") for k, v in values.items()])
            except ConfigError as error:
                show(f"{error.message}: {error.hint}")
                continue
            found |= {
                k: Setting(key=k, value=v, origin=f"answered: --{name}") for k, v in values.items()
            }
            break
    return found


def _show(setup: Setup, camera: CameraFacts | None) -> None:
    rows = [[one.key, _short(spelled(one.value)), one.origin] for one in setup.settings]
    if camera:
        rows.append(["camera", _seen(camera), camera.source])
    table(["found", "value", "from"], rows)
    for note in setup.notes:
        show(f"note: {escape_unprintable(note)}")


def _seen(camera: CameraFacts) -> str:
    rate = f" at {camera.rate_fps:.3g} frames per second" if camera.rate_fps else ""
    return f"{camera.width}x{camera.height} px{rate}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


SETUP = (
    Verb(
        name="init",
        summary="look into a model file and through the camera, and write a short quantd.toml",
        run=_init,
        options=(
            option("file", metavar="MODEL", help="the ONNX file"),
            CAMERA,
            *STATED,
            option(
                "--look",
                action="store_true",
                help="also write quantd-look.html: a frame, with the "
                "model's answers under each choice of pixels",
            ),
            option("--output", metavar="FILE", default=HERE, help=f"default: ./{HERE}"),
            JSON,
        ),
        example="quantd init yolo11n.onnx --camera v4l2:///dev/video0",
    ),
)
