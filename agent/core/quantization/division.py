"""Division of the calibration frames, so that INT8 is judged on frames that it was not made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

FrameT = TypeVar("FrameT")

_MANY = 64
_SET_ASIDE = 4  # one frame in so many, where there are many


@dataclass(frozen=True, slots=True, kw_only=True)
class Division(Generic[FrameT]):
    """Calibration frames in two parts.

    Attributes:
        parts: Both parts; the second is empty if there is one frame.
        folds: Indices of the part that INT8 is made from and of the part it is judged on, for each
            time that both are done.
    """

    parts: tuple[tuple[FrameT, ...], tuple[FrameT, ...]]
    folds: tuple[tuple[int, int], ...]

    @property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """Return the parts that INT8 is made from: in each fold, and in the end all of them."""
        return (*((made,) for made, _ in self.folds), (0, 1))

    def frames_of(self, source: int) -> tuple[FrameT, ...]:
        """Return the frames of one of `sources`."""
        return tuple(frame for part in self.sources[source] for frame in self.parts[part])


def divide(frames: Sequence[FrameT]) -> Division[FrameT]:
    """Divide calibration frames for the decisions inside quantization.

    Of 64 frames or more each fourth is set aside for judging. Fewer are halved, and each half
    judges what was made from the other (two-fold cross-validation). Both parts are spread over all
    frames. A single frame has to judge what was made from it.
    """
    if len(frames) >= _MANY:
        first = tuple(f for i, f in enumerate(frames) if i % _SET_ASIDE != _SET_ASIDE // 2)
        return Division(
            parts=(first, tuple(frames[_SET_ASIDE // 2 :: _SET_ASIDE])), folds=((0, 1),)
        )
    first, second = tuple(frames[::2]), tuple(frames[1::2])
    return Division(parts=(first, second), folds=((0, 1), (1, 0)) if second else ((0, 0),))
