"""The tables of quantd.toml as frozen structs. An unknown key is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent.core.choice.limits import LIMITS, with_floor
from agent.core.choice.objectives import OBJECTIVES
from agent.core.choice.requirements import Requirements
from agent.core.fidelity.decoding import Decoding
from agent.core.frames.input_spec import InputSpec
from agent.core.quantization.calibrator_names import CALIBRATORS

PRECISIONS = ("fp32", "fp16", "int8", "int8-mixed")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Device(_Table, frozen=True):
    """The name and the labels of this device."""

    id: str = ""
    labels: dict[str, str] = {}
    board: str = "auto"


class CameraTable(_Table, frozen=True):
    """Where frames come from and what is asked of the source."""

    uri: str = ""
    width: int = 640
    height: int = 480
    fps: float = 15.0


class ModelInput(_Table, frozen=True):
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
    pixels: str = ""

    def in_effect(self) -> dict[str, Any]:
        """Return every value by its key, without the name of the preset that set some of them."""
        values = msgspec.structs.asdict(self)
        del values["pixels"]
        return values

    @property
    def spec(self) -> InputSpec:
        """Return how a frame becomes a tensor, of the size that is configured, if any."""
        return InputSpec(**self.in_effect())


class Decode(_Table, frozen=True):
    """How a detector's outputs become boxes; see `core.fidelity.decoding.Decoding`."""

    kind: str = ""
    boxes: str = ""
    scores: str = ""
    labels: str = ""
    count: str = ""
    sizes: str = ""
    offsets: str = ""
    masks: str = ""
    keypoints: int = 0
    rotated: bool = False
    format: str = "xyxy"
    unit: str = "pixels"
    size: str = "cells"
    middle: bool = False
    order: str = "xy"
    stride: int = 4
    logits: bool = False
    softmax: bool = False
    background: bool = False
    no_object: bool = False
    objectness: bool = False
    threshold: float = 0.25
    overlap: float = 0.45


class ModelTask(_Table, frozen=True):
    """What the outputs mean, so that fidelity can be measured by the task's own metric."""

    kind: str = "generic"
    names: tuple[str, ...] = ()
    labels: str = ""
    categories: str = "order"
    decode: Decode = Decode()

    @property
    def decoding(self) -> Decoding | None:
        """Return how the outputs become boxes; None if that is not known."""
        return Decoding(**msgspec.structs.asdict(self.decode)) if self.decode.kind else None

    @property
    def has_metric(self) -> bool:
        """Return whether the task has a metric of agreement with FP32."""
        return self.kind != "generic" and (self.kind != "detection" or bool(self.decode.kind))


class Model(_Table, frozen=True):
    """The user's model."""

    name: str = ""
    path: str = ""
    sha256: str = ""
    card: str = ""
    input: ModelInput = ModelInput()
    task: ModelTask = ModelTask()


class Calibration(_Table, frozen=True):
    """How many frames, over how long, and what stays of them."""

    frames: int = 128
    holdout: int = 32
    window_s: float = 60.0
    keep: str = "frames"
    extend: bool = False


class Search(_Table, frozen=True):
    """The candidates."""

    precisions: tuple[str, ...] = PRECISIONS
    calibrators: tuple[str, ...] = tuple(CALIBRATORS)
    batch: tuple[int, ...] = (1,)
    power_modes: tuple[str, ...] = ()
    strategy: str = "full"
    fleet: str = ""


class Objective(_Table, frozen=True):
    """What the best candidate is best at: minimize or maximize an entry of OBJECTIVES."""

    minimize: str = ""
    maximize: str = ""

    @property
    def metric(self) -> str:
        """Return the key of the objective, the first one if none is named."""
        return self.maximize or self.minimize or next(iter(OBJECTIVES))


class _Limits(_Table, frozen=True):
    """What a candidate must keep, a key for each entry of LIMITS; 0 is no limit.

    None is the default of a limit that may be the fidelity floor.
    """

    def by_key(self) -> dict[str, float | None]:
        """Return them as the core takes them."""
        return msgspec.structs.asdict(self)


if TYPE_CHECKING:
    Limits = _Limits
else:
    _FIELDS = [
        (key, float, 0.0) if limit.floor is None else (key, float | None, None)
        for key, limit in LIMITS.items()
    ]
    Limits = msgspec.defstruct("Limits", _FIELDS, bases=(_Limits,), frozen=True, kw_only=True)


class Measure(_Table, frozen=True):
    """The measuring protocol."""

    warmup_s: float = 5.0
    duration_s: float = 30.0
    rounds: int = 5
    idle_s: float = 10.0
    rate_fps: float = 0.0
    power: str = "auto"


class Runtime(_Table, frozen=True):
    """What executes the engine."""

    kind: str = "auto"
    threads: int = 0
    providers: tuple[str, ...] = ()
    workspace_mb: int = 0
    builder_level: int = -1
    compute_capability: str = ""
    cuda_graphs: bool = True
    dla_core: int = -1


class ActivationTable(_Table, frozen=True):
    """What happens around the switch; commands are argv lists, never a shell string."""

    reload: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    health_timeout_s: float = 30.0
    keep: int = 3


class Tls(_Table, frozen=True):
    """Files of the TLS connection; empty means not used."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Mqtt(_Table, frozen=True):
    """The broker; an empty host means no MQTT."""

    host: str = ""
    port: int = 8883
    root: str = "quantd"
    tls: Tls = Tls()
    username: str = ""
    password_file: str = ""
    home_assistant: bool = False


class Commands(_Table, frozen=True):
    """Keys and rules for commands."""

    keys_dir: str = "/etc/quantd/keys"
    require_signature: bool = True
    max_exp_s: float = 86_400.0
    may_loosen_limits: bool = False


class Schedule(_Table, frozen=True):
    """When the daemon starts a run by itself."""

    reoptimize: str = ""
    window: str = ""


class Drift(_Table, frozen=True):
    """When a changed scene starts a run."""

    check_every_s: float = 900.0
    agreement_below: float = 0.0


class ReportTable(_Table, frozen=True):
    """What report.html shows; report.json and what is sent never contain pictures."""

    thumbnails: bool = True


class Storage(_Table, frozen=True):
    """Where state lies and how much of it."""

    dir: str = "/var/lib/quantd"
    max_mb: int = 4096


class Config(_Table, frozen=True):
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
    report: ReportTable = ReportTable()
    storage: Storage = Storage()

    @property
    def shows_pictures(self) -> bool:
        """Return whether report.html may contain pictures: not where no image may stay."""
        return self.report.thumbnails and self.calibration.keep == "frames"

    @property
    def requirements(self) -> Requirements:
        """Return what the chosen candidate must be best at and what it must keep."""
        bounds, floor = with_floor(self.limits.by_key(), self.model.task.has_metric)
        return Requirements(self.objective.metric, bounds, floor)
