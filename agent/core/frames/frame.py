"""A camera frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture as the camera gave it.

    Attributes:
        image: Shape (height, width, 3), uint8, BGR; owned by the receiver.
        captured_ns: Monotonic clock when the frame arrived, ns.
        sequence: Counts frames of one camera from 0, never reset by a reconnect.
        origin: What the source calls the picture, the same each time; "" where it has no names.
    """

    image: NDArray[np.uint8]
    captured_ns: int
    sequence: int
    origin: str = ""
