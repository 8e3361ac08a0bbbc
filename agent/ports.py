"""Every port on one screen: what the stages and the daemon ask of the world.

Adapters implement these; nothing here imports a technology. Every port that holds something
open is a context manager, and every failure is an error of `core.errors`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent.core.energy import PowerSample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.core.command import Command
    from agent.core.fidelity import Comparison
    from agent.core.frame import Frame
    from agent.core.histogram import TensorHistogram
    from agent.core.journal import (
        Answered,
        Arrival,
        Entry,
        Evicted,
        OutboxCounts,
        Outgoing,
        PastMeasurement,
        Row,
        Run,
    )
    from agent.core.lineage import (
        CleanModel,
        Digest,
        Engine,
        Fidelity,
        Layers,
        QuantizedModel,
    )
    from agent.core.precision import Noise, Placement
    from agent.core.preprocess import InputSpec

    Tensors = Mapping[str, NDArray[Any]]

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, note); total 0 means unknown."""

RecordT = TypeVar("RecordT")


class Camera(Protocol):
    """A live source of frames. Survives loss of the stream within `read`'s patience."""

    source: str
    """URI without credentials, as reports show it."""
    synthetic: bool
    lost: int
    """Times the stream was lost and came back so far."""

    def __enter__(self) -> Camera: ...
    def __exit__(self, *_: object) -> None: ...

    def read(self, timeout_s: float) -> Frame:
        """Return the newest frame, never a stale or repeated one.

        Raises:
            CameraError: "timeout" if no frame came in timeout_s, reconnecting included;
                "ended" if a finite source that does not loop is exhausted.
        """
        ...


class FrameStore(Protocol):
    """Frames on disk, lossless, read one at a time."""

    def write(self, directory: str, name: str, image: NDArray[np.uint8]) -> None:
        """Store an image (HWC uint8 BGR) as directory/name; complete or not at all."""
        ...

    def remove(self, directory: str, name: str) -> None:
        """Remove a stored image; one that is not there is no error."""
        ...

    def thumbnail(self, path: str, directory: str) -> None:
        """Store a small JPEG of a stored frame under directory, for reports."""
        ...

    def read(self, path: str, spec: InputSpec) -> NDArray[np.uint8]:
        """Return the image resized to the model's input as spec says, HWC uint8 BGR."""
        ...


class Intake(Protocol):
    """Turns a user's file into an ordinary graph, or says why not."""

    def clean(self, path: str, name: str, spec: InputSpec, directory: str) -> CleanModel:
        """Write directory/model.onnx and return its record (digest left to the caller)."""
        ...


class Quantizer(Protocol):
    """Counts what tensors hold, and puts a float precision into the graph."""

    def collect(
        self, model: str, frames: Iterable[Tensors], count: int, progress: Progress
    ) -> Iterator[TensorHistogram]:
        """Run the model once over the frames, yield a histogram per tensor to quantize.

        Memory must not grow with the number of frames.
        """
        ...

    def convert(
        self, model: str, precision: str, frames: Sequence[Tensors], target: str
    ) -> tuple[str, ...]:
        """Write target in fp32 or fp16; return the compute nodes that stay wider than asked."""
        ...


class Conditioner(Protocol):
    """Makes a graph easier to quantize without changing what it computes."""

    def equalize(self, model: str, frames: Sequence[Tensors], target: str) -> int:
        """Write target with even channels; return at how many places, writing nothing at 0."""
        ...


class Rehearsal(Protocol):
    """INT8 graphs of one model and scheme, tried on a few frames before anything is built."""

    @property
    def tensors(self) -> Mapping[str, frozenset[str]]:
        """Return every activation that would be quantized, and the layers that ask for it."""
        ...

    def layers(self) -> Mapping[str, tuple[str, int]]:
        """Return (operator, multiply-accumulates) of every layer that can run in INT8."""
        ...

    def weight_noise(self, layer: str) -> Noise:
        """Return the noise at the outputs if the weights of one layer are rounded to INT8."""
        ...

    def activation_noise(self, ranges: Mapping[str, tuple[float, float]]) -> Noise:
        """Return the noise at the outputs if some activations alone are quantized."""
        ...

    def fidelity(self, placement: Placement, comparison: Comparison) -> Fidelity | None:
        """Return how near the whole graph is to FP32, or None where it holds no number."""
        ...

    def write(self, placement: Placement, target: str) -> tuple[float, tuple[str, ...]]:
        """Write the graph; return (int8_macs_fraction, nodes kept float)."""
        ...


class EngineBuilder(Protocol):
    """Makes what the runtime executes."""

    runtime: str
    version: str
    device: str
    dla_core: int
    """The accelerator that it builds for, -1 for none."""
    runnable: bool
    """False where this machine builds for another device and can't execute."""

    def build(
        self, quantized: str, batch: int, directory: str, progress: Progress
    ) -> tuple[str, Layers]:
        """Write the engine under directory; return its file name and what it is made of.

        Raises:
            BuildError: naming node, operator, reason and what to try.
        """
        ...


class EngineRunner(Protocol):
    """A loaded engine. Enter to take its memory, leave to give it back."""

    def __enter__(self) -> EngineRunner: ...
    def __exit__(self, *_: object) -> None: ...

    def bind(self, inputs: Tensors) -> None:
        """Copy inputs into preallocated buffers, to be run many times without allocation."""
        ...

    def run(self) -> None:
        """Execute once on the bound inputs; returns when the outputs are complete."""
        ...

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return copies of the outputs of the last run."""
        ...

    def device_ms(self) -> float | None:
        """Return what the device took for the last run by its own clock, None if it has none."""
        ...


class PowerMeter(Protocol):
    """Samples a rail in the background while entered."""

    source: str
    """jtop, ina3221, nvml, rapl."""
    rail: str
    period_s: float

    def __enter__(self) -> PowerMeter: ...
    def __exit__(self, *_: object) -> None: ...

    def samples(self) -> Sequence[PowerSample]:
        """Return all samples since entering, ordered by time, none of them twice."""
        ...


class PowerModes(Protocol):
    """The power modes of a board."""

    def modes(self) -> Mapping[str, str]:
        """Return every mode by name, with why it can't be set now; empty if it can."""
        ...

    def current(self) -> str:
        """Return the present mode's name."""
        ...

    def held(self, name: str) -> AbstractContextManager[None]:
        """Be in a mode until left, then in the one that was found; read back both times.

        Raises:
            PowerError: "power_mode" if it can't be set, or is another one in the end.
        """
        ...

    def go_back(self) -> str:
        """Set the mode that a killed process could not go back to; return it, "" if none."""
        ...


class Store(Protocol):
    """Artifacts by digest: a directory with a record and its files, complete or absent."""

    def get(self, digest: Digest, kind: type[RecordT]) -> RecordT | None:
        """Return the stored record, or None; a damaged one is set aside and counts as None."""
        ...

    def directory(self, digest: Digest) -> str:
        """Return where a stored artifact's files lie."""
        ...

    def stage(self, digest: Digest) -> AbstractContextManager[str]:
        """Yield an empty work directory on the store's file system; removed if not kept."""
        ...

    def keep(self, digest: Digest, work: str, record: object) -> None:
        """Make the work directory the artifact of this digest: fsync and one rename."""
        ...

    def prune(self, max_bytes: int, used: Collection[str]) -> int:
        """Remove artifacts, longest unused first and none in use; return the bytes freed."""
        ...


class Releases(Protocol):
    """What applications load: release directories and the link `current` to one of them."""

    def current(self) -> str | None:
        """Return the id of the release that `current` points to."""
        ...

    def path(self, release: str) -> str:
        """Return the directory of a release."""
        ...

    def ids(self) -> list[str]:
        """Return all releases, oldest first (ids begin with the time they were made)."""
        ...

    def facts(self, release: str) -> dict[str, Any]:
        """Return model.json, empty if it can't be read."""
        ...

    def identity(self, release: str) -> str | None:
        """Return what identifies the release's content (`identity` in model.json), or None."""
        ...

    def lineage(self) -> frozenset[str]:
        """Return the digests of all records that the releases were made from."""
        ...

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """Make a release from contents (bytes) or files to copy (paths); complete or absent."""
        ...

    def add(self, release: str, name: str, body: bytes) -> None:
        """Add one file to a release, complete or not at all."""
        ...

    def intend(self, release: str, previous: str | None) -> None:
        """Write down, before acting, what is about to be switched."""
        ...

    def pending(self) -> tuple[str, str | None] | None:
        """Return the (release, previous) of a switch that was begun and never finished."""
        ...

    def switch(self, release: str | None) -> None:
        """Point `current` to a release by one rename; None removes the link."""
        ...

    def finish(self, keep: int) -> None:
        """Forget the intent; remove old releases beyond keep, never the current one."""
        ...


class Jobs(Protocol):
    """Runs one piece of heavy work in a child process."""

    def run(
        self,
        kind: str,
        spec: Mapping[str, object],
        result: type[RecordT],
        *,
        progress: Progress,
        cancelled: threading.Event,
        timeout_s: float,
    ) -> RecordT:
        """Run the job and return its result record.

        Raises:
            JobError: "canceled", "timed_out", or "died" with the signal and memory seen.
            QuantdError: whatever the job itself raised, with its class and code.
        """
        ...


class Clock(Protocol):
    """Time, as a port so that tests decide it."""

    def monotonic_ns(self) -> int:
        """Return the monotonic clock, ns."""
        ...

    def utc(self) -> str:
        """Return the wall clock as RFC 3339 in UTC with milliseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class Link(Protocol):
    """The connection to the broker. Its threads only put LinkEvents into the daemon's mailbox."""

    @property
    def session(self) -> int:
        """Return the number of the current or last connection, 0 before the first."""

    def start(self) -> None:
        """Begin connecting in the background, or begin anew; never blocks, never gives up.

        Raises:
            ConfigError: if a TLS file can't be used.
        """

    def send(self, topic: str, body: bytes, *, qos: int, retain: bool, expiry_s: int) -> int | None:
        """Hand over one message; return its id for the acknowledgement, None if not connected.

        What is not acknowledged when the connection is lost is forgotten here.
        """

    def acknowledge(self, message: int) -> None:
        """Tell the broker that a received command is safely stored."""

    def stop(self, topic: str, farewell: bytes) -> None:
        """Publish the farewell (retained) if connected, and disconnect cleanly."""


class Notifier(Protocol):
    """The service manager."""

    def ready(self, status: str) -> None:
        """Say that start-up is complete."""

    def alive(self, status: str) -> None:
        """Pet the watchdog and show a status line."""

    def stopping(self) -> None:
        """Say that a clean stop has begun."""


class Journal(Protocol):
    """What must survive a crash: outbox, inbox, runs, counters, past measurements.

    Every method may raise StoreError: "disk_full", "busy", "damaged" or "store".
    """

    def atomic(self) -> AbstractContextManager[None]:
        """Make everything inside one transaction: on the disk together or not at all."""

    def next(self, name: str) -> int:
        """Count up and return a persisted counter, from 1."""

    def append(self, message: Outgoing) -> int:
        """Put a message into the outbox and return its key."""

    def pending(self, after: int, count: int) -> Sequence[Row]:
        """Return the next messages to send, in order, with keys above `after`."""

    def delivered(self, keys: Sequence[int]) -> None:
        """Forget delivered messages; events, results and reports stay for `resend` a while."""

    def park(self, key: int, reason: str) -> None:
        """Set aside a message that the broker will never take."""

    def resend(self, streams: Sequence[str], first: int) -> int:
        """Queue what was sent or parked again, from number `first` on; return how many."""

    def evict(self) -> Sequence[Evicted]:
        """Give up what has expired or is too much, least valuable first, and count it."""

    def counts(self) -> OutboxCounts:
        """Return what waits and what was lost."""

    def receive(self, command: Command) -> Arrival:
        """Store a command as RECEIVED unless its id is known; say which it is."""

    def advance(self, command_id: str, answer: Answered) -> int:
        """Store a command's stage; return its version, 0 if the inbox doesn't have the id.

        Raises:
            StoreError: "stage" if the stage may not follow the stored one.
        """

    def entry(self, command_id: str) -> Entry | None:
        """Return what is known of a command."""

    def unanswered(self) -> Sequence[Entry]:
        """Return the commands without a final stage, oldest first."""

    def begin_run(self, run_id: str, trigger: str, command_id: str | None, spec: str) -> int:
        """Store that a run begins, or begins again; return the number of attempts so far."""

    def update_run(self, run_id: str, *, stage: str = "", outcome: str = "") -> None:
        """Store how far a run has come, or how it ended."""

    def unfinished_runs(self) -> Sequence[Run]:
        """Return the runs without an outcome, oldest first."""

    def record(self, measurement: PastMeasurement) -> None:
        """Keep a measurement for later predictions."""

    def history(self, count: int) -> Sequence[PastMeasurement]:
        """Return the newest measurements, newest first."""


class Signatures(Protocol):
    """The keys that may give commands."""

    def verify(self, token: bytes) -> bytes:
        """Return the signed claims as they are, JSON.

        Raises:
            CommandError: "bad_signature" with the reason.
        """


__all__ = [
    "Camera", "Clock", "Engine", "EngineBuilder", "EngineRunner", "FrameStore", "Intake", "Jobs",
    "Journal", "Link", "Notifier", "PowerMeter", "PowerSample", "Progress", "QuantizedModel",
    "Quantizer", "Releases", "Signatures", "Store",
]  # fmt: skip
