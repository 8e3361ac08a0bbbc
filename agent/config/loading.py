"""Load the Config from TOML files and the command line, and check it."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import msgspec

from agent.config.checks import check, flatten
from agent.config.class_names import read_names
from agent.config.tables import Config, Mqtt
from agent.config.toml import read_toml
from agent.core.errors import ConfigError, suggestion
from agent.core.frames.pixels import PIXELS

_PATHS = {  # keys with a path, and how it ends; a board may also be a name
    "device.board": ".toml",
    "model.path": "",
    "model.card": "",
    "model.task.labels": "",
    "model.task.names": "",
    "search.fleet": "",
    "mqtt.password_file": "",
    "mqtt.tls.ca": "",
    "mqtt.tls.cert": "",
    "mqtt.tls.key": "",
    "commands.keys_dir": "",
    "storage.dir": "",
}
_COMMANDS = ("activation.reload", "activation.health")


def load(path: str | Path, *, overrides: dict[str, Any] | None = None) -> Config:
    """Read, merge and check a configuration file.

    Args:
        path: The TOML file. Relative paths in it are relative to its folder.
        overrides: Dotted keys from the command line, e.g. {"model.path": "m.onnx"};
            relative paths among them are relative to the current folder.

    Raises:
        ConfigError: naming the key, the value seen and what is allowed.
    """
    return load_with_origin(path, overrides=overrides)[0]


def load_with_origin(
    path: str | Path, *, overrides: dict[str, Any] | None = None
) -> tuple[Config, dict[str, str]]:
    """As `load`; also return the source of each dotted key that is not a default."""
    file = Path(path)
    layers = [(str(file), _absolute_paths(read_toml(file), file.resolve().parent))]
    card = layers[0][1].get("model", {})
    card_path = card.get("card") if isinstance(card, dict) else None
    if card_path:
        card_file = Path(str(card_path))
        model = _absolute_paths({"model": read_toml(card_file)}, card_file.resolve().parent)
        layers.insert(0, (str(card_file), model))
    layers.append(("command line", _nest(overrides or {})))
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, layer in layers:
        read_names(layer)
        _merge(merged, layer, source, origin, "")
    config = _decode(merged, str(file))
    check(config)
    return _with_defaults(_with_pixels(config, origin)), origin


def from_settings(values: Mapping[str, tuple[Any, str]]) -> tuple[Config, dict[str, str]]:
    """Return the configuration of dotted keys, and the origin of each key.

    Args:
        values: By dotted key the value and its origin; paths are absolute.

    Raises:
        ConfigError: naming the key, the value seen and what is allowed.
    """
    origin = {key: source for key, (_, source) in values.items()}
    nested = read_names(_nest({key: value for key, (value, _) in values.items()}))
    config = _decode(nested, "options")
    check(config)
    return _with_defaults(_with_pixels(config, origin)), origin


def dump(config: Config) -> dict[str, Any]:
    """Return the configuration as plain JSON values."""
    return cast("dict[str, Any]", msgspec.to_builtins(config))


def from_dump(values: object) -> Config:
    """Return the configuration from the values of `dump`; for child processes."""
    return msgspec.convert(values, Config)


def broker_settings(values: Mapping[str, Any]) -> Mqtt:
    """Return a table [mqtt] from its keys, checked; those that are missing have their defaults.

    Raises:
        ConfigError: naming the key.
    """
    try:
        config = msgspec.convert({"mqtt": values}, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error
    check(config)
    return config.mqtt


def require_source(config: Config) -> None:
    """Check the two keys without a default, needed for a run.

    Raises:
        ConfigError: if the model path or the camera is missing.
    """
    if not config.model.path:
        raise ConfigError(
            "no model: model.path is empty",
            hint='set path = "your.onnx" under [model], or pass --model your.onnx',
        )
    if not config.camera.uri:
        raise ConfigError(
            "no camera: camera.uri is empty",
            hint='set uri = "v4l2:///dev/video0" under [camera], or pass --camera URI',
        )


def _absolute_paths(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    for key, ending in _PATHS.items():
        table, leaf = _table_of(tables, key)
        value = table.get(leaf)
        if isinstance(value, str) and value and value.endswith(ending):
            table[leaf] = str(folder / value)
    for key in _COMMANDS:
        table, leaf = _table_of(tables, key)
        match table.get(leaf):
            case [str(program), *arguments] if "/" in program:  # else one of the search path
                table[leaf] = [str(folder / program), *arguments]
    return tables


def _table_of(tables: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the table that a dotted key is in, an empty one if it is missing, and its last part."""
    *parents, leaf = key.split(".")
    table: Any = tables
    for parent in parents:
        table = table.get(parent) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else {}, leaf


def _nest(dotted: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _merge(
    into: dict[str, Any], layer: dict[str, Any], source: str, origin: dict[str, str], prefix: str
) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), value, source, origin, f"{prefix}{key}.")
        else:
            into[key] = value
            origin[prefix + key] = source


def _decode(merged: dict[str, Any], file: str) -> Config:
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as e:
        message = str(e)
        unknown = re.search(r"unknown field `(.+?)`(?: - at `\$(.*)`)?", message)
        if unknown is None:
            raise ConfigError(f"{file}: {message.replace('`$.', '`')}") from e
        table = (unknown.group(2) or "").strip(".")
        path = f"{table}.{unknown.group(1)}" if table else unknown.group(1)
        keys = list(flatten(dump(Config())))
        near = suggestion(path, keys).strip()
        allowed = ", ".join(k[len(table) + 1 :] for k in keys if k.startswith(table + "."))
        hint = near or f"allowed in [{table}]: {allowed}"
        raise ConfigError(f"{file}: unknown key {path}", hint=hint) from e


def _with_pixels(config: Config, origin: dict[str, str]) -> Config:
    """Put the values of the preset `model.input.pixels` in effect, and into `origin`.

    Raises:
        ConfigError: if a value that the preset sets is set as well.
    """
    table = config.model.input
    if not table.pixels:
        return config
    preset = {key: value for key, value in asdict(PIXELS[table.pixels]).items() if value != ""}
    source = f'pixels = "{table.pixels}" ({origin["model.input.pixels"]})'
    for key, value in preset.items():
        path = f"model.input.{key}"
        if path in origin and (key, table.color) != ("color", value):
            raise ConfigError(
                f'model.input.pixels = "{table.pixels}" sets {key}, but so does {origin[path]}',
                hint=f"remove model.input.pixels or {path}",
            )
        origin[path] = source
    changed = msgspec.structs.replace(table, **preset)
    return msgspec.structs.replace(
        config, model=msgspec.structs.replace(config.model, input=changed)
    )


def _with_defaults(config: Config) -> Config:
    """Fill in the defaults that depend on the machine or on other keys."""
    name = config.model.name or re.sub(r"[^A-Za-z0-9._-]", "-", Path(config.model.path).stem)
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "device"
    return msgspec.structs.replace(
        config,
        device=msgspec.structs.replace(config.device, id=config.device.id or host),
        model=msgspec.structs.replace(config.model, name=name or "model"),
    )
