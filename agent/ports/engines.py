"""What builds and executes engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agent.ports.types import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.core.records import Launches, Layers
    from agent.ports.types import Tensors


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

    def launches(self) -> Launches | None:
        """Return how runs after the first one are launched, None if the runtime sees to that."""
        ...

    def device_bytes(self) -> int | None:
        """Return the device's memory that the engine holds after a run, beside the process's own.

        0 where it has none of its own; None where it does and the runtime does not tell.
        """
        ...
