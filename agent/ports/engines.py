"""Ports that build and execute engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent.ports.types import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.core.measurement.layer_times import EngineProfile
    from agent.core.records import Launches, Layers
    from agent.ports.types import Tensors


class EngineBuilder(Protocol):
    """Builds engines of one runtime."""

    runtime: str
    version: str
    device: str
    dla_core: int
    """The deep-learning accelerator that it builds for; -1 for none."""
    runnable: bool
    """False if it builds for another device, so that engines can't run on this one."""

    def build(
        self, quantized: str, batch: int, directory: str, progress: Progress
    ) -> tuple[str, Layers]:
        """Write the engine and layers.json under directory; return its file name and layer counts.

        Raises:
            BuildError: with node, operator, reason and what to try.
        """
        ...


class EngineRunner(Protocol):
    """An engine, loaded while entered."""

    def __enter__(self) -> EngineRunner: ...
    def __exit__(self, *_: object) -> None: ...

    def bind(self, inputs: Tensors) -> None:
        """Copy inputs into preallocated buffers, so that `run` does not allocate.

        Raises:
            RunnerError: "wrong_input" if names, shapes or dtypes are not the engine's.
        """
        ...

    def run(self) -> None:
        """Execute once on the bound inputs; returns when the outputs are complete."""
        ...

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return copies of the outputs of the last run."""
        ...

    def device_ms(self) -> float | None:
        """Return the last run's duration by the device's own clock, ms; None if it has none."""
        ...

    def launches(self) -> Launches | None:
        """Return how kernels are launched after the first run; None if the runtime decides."""
        ...

    def device_bytes(self) -> int | None:
        """Return the device memory of the engine after a run, besides the process's memory, bytes.

        0 on a device without memory of its own; None if the runtime does not report it.
        """
        ...


class EngineProfiler(Protocol):
    """Times the layers of engines by the runtime's own profiler, for a few seconds each."""

    def profile(self, engine: str, inputs: Sequence[Tensors]) -> EngineProfile:
        """Run an engine some dozen times.

        Args:
            engine: Path of the engine file.
            inputs: At least one, taken in turn.

        Raises:
            RunnerError: "no_profile" if the runtime does not time its layers here.
        """
        ...
