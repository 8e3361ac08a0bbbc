"""Types that several ports share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[Any]]


class Progress(Protocol):
    """Called with how far a job is."""

    def __call__(self, done: int, total: int, note: str, candidate: str = "", /) -> None:
        """Report progress.

        Args:
            done: Steps done.
            total: All steps; 0 if unknown.
            note: For people; "" if there is nothing to add.
            candidate: Id of the candidate that is being loaded, warmed up or measured; "" if
                the job does not know candidates, or is between two of them.
        """
        ...


RecordT = TypeVar("RecordT")
