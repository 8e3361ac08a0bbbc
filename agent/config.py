"""Configuration: TOML into frozen structs, once, at start. `configs/quantd.toml` explains every key.

Precedence: built-in defaults < board file < model card < quantd.toml < command line.
An unknown key is an error that names its path; so is a value out of range. No environment
variables are read; secrets are named by file.
"""

from __future__ import annotations

import difflib
import re
import socket
from pathlib import Path
from typing import Any, cast

import msgspec

from agent.core.errors import ConfigError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef,unused-ignore]

PRECISIONS = ("fp32", "fp16", "int8", "int8-mixed")
CALIBRATORS = ("minmax", "entropy", "percentile", "mse")
OBJECTIVES = ("latency", "energy", "power", "throughput")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Device(_Table):
    """Who this device is."""

    id: str = ""
    labels: dict[str, str] = {}
    board: str = "auto"


class CameraTable(_Table):
    """Where frames come from and what is asked of the source."""

    uri: str = ""
    width: int = 640
    height: int = 480
    fps: float = 15.0


class ModelInput(_Table):
    """How a frame becomes the model's input tensor: ((pixel * scale) - mean) / std, per channel."""

    width: int = 0
    height: int = 0
    layout: str = "NCHW"
    color: str = "RGB"
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "stretch"


class ModelTask(_Table):
    """What the outputs mean, so that fidelity can be told in the task's own metric."""

    kind: str = "generic"
    labels: str = ""


class Model(_Table):
    """The user's model."""

    name: str = ""
    path: str = ""
    sha256: str = ""
    card: str = ""
    input: ModelInput = ModelInput()
    task: ModelTask = ModelTask()


class Calibration(_Table):
    """How many frames, over how long, and what stays of them."""

    frames: int = 128
    holdout: int = 32
    window_s: float = 60.0
    keep: str = "frames"


class Search(_Table):
    """The candidates."""

    precisions: tuple[str, ...] = PRECISIONS
    calibrators: tuple[str, ...] = CALIBRATORS
    batch: tuple[int, ...] = (1,)
    power_modes: tuple[str, ...] = ()


class Objective(_Table):
    """What the best candidate is best at: `minimize` one, or `maximize = "throughput"`."""

    minimize: str = ""
    maximize: str = ""

    @property
    def metric(self) -> str:
        """Return the one metric that decides, latency if none is named."""
        return self.maximize or self.minimize or "latency"


class Limits(_Table):
    """What a candidate must keep; 0 is no limit."""

    latency_p99_ms: float = 0.0
    power_w: float = 0.0
    energy_j: float = 0.0
    memory_mb: float = 0.0
    fps: float = 0.0
    sqnr_db: float = 0.0
    agreement: float = 0.0


class Measure(_Table):
    """The measuring protocol."""

    warmup_s: float = 5.0
    duration_s: float = 30.0
    rounds: int = 5
    idle_s: float = 10.0
    power: str = "auto"


class Runtime(_Table):
    """What executes the engine."""

    kind: str = "auto"
    threads: int = 0
    workspace_mb: int = 0
    dla_core: int = -1


class ActivationTable(_Table):
    """What happens around the switch; commands are argv lists, never a shell string."""

    reload: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    health_timeout_s: float = 30.0
    keep: int = 3


class Tls(_Table):
    """Files of the TLS connection; empty means not used."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Mqtt(_Table):
    """The broker; an empty host means no MQTT."""

    host: str = ""
    port: int = 8883
    root: str = "quantd"
    tls: Tls = Tls()
    username: str = ""
    password_file: str = ""


class Commands(_Table):
    """Who may give commands."""

    keys_dir: str = "/etc/quantd/keys"
    require_signature: bool = True


class Schedule(_Table):
    """When the daemon starts a run by itself."""

    reoptimize: str = ""
    window: str = ""


class Drift(_Table):
    """When a changed scene starts a run."""

    check_every_s: float = 900.0
    agreement_below: float = 0.0


class Storage(_Table):
    """Where state lies and how much of it."""

    dir: str = "/var/lib/quantd"
    max_mb: int = 4096


class Config(_Table):
    """The whole configuration; every key has a default but the model path and the camera."""

    device: Device = Device()
    camera: CameraTable = CameraTable()
    model: Model = Model()
    calibration: Calibration = Calibration()
    search: Search = Search()
    objective: Objective = Objective()
    limits: Limits = Limits()
    measure: Measure = Measure()
    runtime: Runtime = Runtime()
    activation: ActivationTable = ActivationTable()
    mqtt: Mqtt = Mqtt()
    commands: Commands = Commands()
    schedule: Schedule = Schedule()
    drift: Drift = Drift()
    storage: Storage = Storage()


_CHOICES: dict[str, tuple[str, ...]] = {
    "model.input.layout": ("NCHW", "NHWC"),
    "model.input.color": ("RGB", "BGR", "GRAY"),
    "model.input.dtype": ("float32", "float16", "uint8", "int8"),
    "model.input.resize": ("stretch", "letterbox"),
    "calibration.keep": ("frames", "stats"),
    "search.precisions": PRECISIONS,
    "search.calibrators": CALIBRATORS,
    "objective.minimize": ("", "latency", "energy", "power"),
    "objective.maximize": ("", "throughput"),
    "measure.power": ("auto", "jtop", "ina3221", "nvml", "rapl", "none"),
    "runtime.kind": ("auto", "tensorrt", "onnxruntime"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "camera.width": (16, 16384),
    "camera.height": (16, 16384),
    "camera.fps": (0.01, 1000),
    "model.input.width": (0, 16384),
    "model.input.height": (0, 16384),
    "calibration.frames": (1, 100_000),
    "calibration.holdout": (1, 100_000),
    "calibration.window_s": (0.1, 86_400),
    "search.batch": (1, 1024),
    "limits.latency_p99_ms": (0, 1e6),
    "limits.power_w": (0, 1e4),
    "limits.energy_j": (0, 1e6),
    "limits.memory_mb": (0, 1e7),
    "limits.fps": (0, 1e6),
    "limits.sqnr_db": (0, 200),
    "limits.agreement": (0, 1),
    "measure.warmup_s": (0, 3600),
    "measure.duration_s": (0.1, 86_400),
    "measure.rounds": (1, 1000),
    "measure.idle_s": (0, 3600),
    "runtime.threads": (0, 1024),
    "runtime.workspace_mb": (0, 1e6),
    "runtime.dla_core": (-1, 7),
    "activation.health_timeout_s": (0.1, 3600),
    "activation.keep": (1, 100),
    "mqtt.port": (1, 65_535),
    "drift.check_every_s": (1, 1e7),
    "drift.agreement_below": (0, 1),
    "storage.max_mb": (16, 1e8),
}
_TASKS = ("generic", "classification", "segmentation", "detection")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
    """As `load`, and where each dotted key that is not a default came from."""
    file = Path(path)
    layers = [(str(file), _absolute_paths(_read_toml(file), file.resolve().parent))]
    card = layers[0][1].get("model", {})
    card_path = card.get("card") if isinstance(card, dict) else None
    if card_path:
        card_file = Path(str(card_path))
        model = _absolute_paths({"model": _read_toml(card_file)}, card_file.resolve().parent)
        layers.insert(0, (str(card_file), model))
    layers.append(("command line", _nest(overrides or {})))
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, layer in layers:
        _merge(merged, layer, source, origin, "")
    config = _decode(merged, str(file))
    _check(config)
    return _with_defaults(config), origin


def dump(config: Config) -> dict[str, Any]:
    """Return the configuration as plain JSON values."""
    return cast("dict[str, Any]", msgspec.to_builtins(config))


def from_dump(values: object) -> Config:
    """Return the configuration that `dump` made plain; for child processes."""
    return msgspec.convert(values, Config)


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


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as e:
        raise ConfigError(
            f"{file}: cannot be read: {e.strerror}", hint="check the path and its permissions"
        ) from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {e.start})") from e
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise ConfigError(f"{file}: is not valid TOML: {e}") from e


def _absolute_paths(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    model = tables.get("model")
    if isinstance(model, dict):
        for key in ("path", "card"):
            if isinstance(model.get(key), str) and model[key]:
                model[key] = str(folder / model[key])
        task = model.get("task")
        if isinstance(task, dict) and isinstance(task.get("labels"), str) and task["labels"]:
            task["labels"] = str(folder / task["labels"])
    return tables


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
        near = difflib.get_close_matches(path, keys, n=1, cutoff=0.6)
        allowed = ", ".join(k[len(table) + 1 :] for k in keys if k.startswith(table + "."))
        hint = f"did you mean {near[0]}?" if near else f"allowed in [{table}]: {allowed}"
        raise ConfigError(f"{file}: unknown key {path}", hint=hint) from e


def _check(config: Config) -> None:
    flat = flatten(dump(config))
    for key, allowed in _CHOICES.items():
        for value in _each(flat[key]):
            if value not in allowed:
                raise ConfigError(
                    f'{key} = "{value}" is not known',
                    hint="allowed: " + ", ".join(a or '""' for a in allowed),
                )
    for key, (low, high) in _RANGES.items():
        for value in _each(flat[key]):
            if not low <= value <= high:  # NaN fails too
                raise ConfigError(f"{key} = {value:g} is out of range", hint=f"{low:g} to {high:g}")
    _check_model(config)
    if config.objective.minimize and config.objective.maximize:
        raise ConfigError("[objective] has both minimize and maximize", hint="keep one of them")
    if not config.search.precisions or not config.search.batch:
        raise ConfigError("search.precisions and search.batch must not be empty")
    if not _NAME.fullmatch(config.mqtt.root):
        raise ConfigError(
            f"mqtt.root = {config.mqtt.root!r}", hint="letters, digits, '.', '_' and '-' only"
        )
    if config.device.id and not _NAME.fullmatch(config.device.id):
        raise ConfigError(
            f"device.id = {config.device.id!r} can't be an MQTT topic level and client id",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )


def _check_model(config: Config) -> None:
    model = config.model
    if model.name and not _NAME.fullmatch(model.name):
        raise ConfigError(
            f"model.name = {model.name!r} can't be an MQTT topic level",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )
    if model.task.kind not in _TASKS and not re.fullmatch(r"[\w.]+:\w+", model.task.kind):
        raise ConfigError(
            f'model.task.kind = "{model.task.kind}" is not known',
            hint="allowed: " + ", ".join(_TASKS) + ', or "module:function"',
        )
    if config.limits.agreement and model.task.kind == "generic":
        raise ConfigError(
            "limits.agreement needs a task metric, but model.task.kind is generic",
            hint="set model.task.kind, or use limits.sqnr_db",
        )
    if any(not abs(value) > 0 for value in model.input.std):
        raise ConfigError("model.input.std must not contain 0")
    for key in ("mean", "std"):
        if len(getattr(model.input, key)) not in {1, 3}:
            raise ConfigError(f"model.input.{key} needs 1 or 3 values")


def _with_defaults(config: Config) -> Config:
    """Fill the defaults that depend on the machine or on other keys."""
    name = config.model.name or re.sub(r"[^A-Za-z0-9._-]", "-", Path(config.model.path).stem)
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "device"
    return msgspec.structs.replace(
        config,
        device=msgspec.structs.replace(config.device, id=config.device.id or host),
        model=msgspec.structs.replace(config.model, name=name or "model"),
    )


def _each(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
