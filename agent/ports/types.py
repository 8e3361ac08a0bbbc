"""Names that several ports share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[Any]]


Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, note); total 0 means unknown."""


RecordT = TypeVar("RecordT")
