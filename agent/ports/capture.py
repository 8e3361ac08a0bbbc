"""Cameras and stored frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.core.frames.frame import Frame
    from agent.core.frames.input_spec import InputSpec


class Camera(Protocol):
    """A live source of frames. It reconnects after a loss of the stream, within `read`'s timeout."""

    source: str
    """URI without credentials, as reports show it."""
    synthetic: bool
    lost: int
    """How often the stream was lost and came back."""

    def __enter__(self) -> Camera: ...
    def __exit__(self, *_: object) -> None: ...

    def read(self, timeout_s: float) -> Frame:
        """Return the newest frame, never a stale or repeated one.

        Raises:
            CameraError: "timeout" without a frame in timeout_s, reconnecting included; "ended" at
                the end of a finite source that does not loop; "closed" outside `with`.
        """
        ...


class FrameStore(Protocol):
    """Frames on disk, lossless, read one at a time."""

    def write(self, directory: str, name: str, image: NDArray[np.uint8]) -> None:
        """Store an image (HWC uint8 BGR) as directory/name, atomically."""
        ...

    def remove(self, directory: str, name: str) -> None:
        """Remove a stored image; a missing one is no error."""
        ...

    def read(self, path: str, spec: InputSpec) -> NDArray[np.uint8]:
        """Return the image resized to the model's input size, HWC uint8 BGR.

        Raises:
            StoreError: "damaged" if the file is missing or not an image.
        """
        ...

    def size(self, path: str) -> tuple[int, int]:
        """Return width and height of a stored image, px.

        Raises:
            StoreError: "damaged" if the file is missing or not an image.
        """
        ...
