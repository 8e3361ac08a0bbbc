"""A bounded pool of candidate frames that keeps the most different ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.core.frames.selection import (
    DUPLICATE,
    FrameFeatures,
    Quality,
    distances,
    rejection_reason,
)


class Reservoir:
    """Keeps up to `capacity` looks at frames; when full, the most redundant one leaves.

    Each candidate stores the distance to its nearest neighbour when it was added, so the later of
    the two most similar ones has their distance. Adding takes a few passes over the signatures;
    memory depends on the capacity only.

    Args:
        capacity: Largest number of candidates, >= 1.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._names: list[str] = []
        self._qualities: list[Quality] = []
        self._signatures = np.empty((0, 0), np.float32)
        self._apart = np.empty(0, np.float32)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the candidates, in the order of `signatures`."""
        return tuple(self._names)

    @property
    def signatures(self) -> NDArray[np.float32]:
        """Return the signatures, shape (candidates, d); not to be written to."""
        return self._signatures[: len(self._names)]

    @property
    def usual_detail(self) -> float | None:
        """Return the upper quartile of the candidates' detail; None without candidates.

        Not the median, since a moving camera may blur more than half of its frames.
        """
        if not self._qualities:
            return None
        return float(np.percentile([quality.detail for quality in self._qualities], 75))

    def is_duplicate(self, signature: NDArray[np.float32]) -> bool:
        """Return True if a candidate differs from this signature only by noise."""
        if not self._names:
            return False
        return bool(distances(signature, self.signatures).min() < DUPLICATE)

    def add(self, name: str, look: FrameFeatures) -> str | None:
        """Take a frame in; return the name of the one that leaves, maybe this one, or None."""
        self._grow(look.signature.size)
        index = len(self._names)
        self._names.append(name)
        self._qualities.append(look.quality)
        self._signatures[index] = look.signature
        self._apart[index] = self._others(index).min(initial=np.inf)
        return self._remove(self._most_redundant()) if index >= self._capacity else None

    def drop_blurred(self) -> tuple[str, ...]:
        """Remove blurred candidates, by the usual detail of all; return their names."""
        usual = self.usual_detail
        blurred = [
            name
            for name, quality in zip(self._names, self._qualities, strict=True)
            if rejection_reason(quality, usual) == "blur"
        ]
        for name in blurred:
            self._remove(self._names.index(name))
        return tuple(blurred)

    def _grow(self, width: int) -> None:
        """Double the arrays when they are full, up to one more than the capacity."""
        count = len(self._names)
        if count < len(self._signatures):
            return
        size = min(self._capacity + 1, max(16, 2 * count))
        signatures = np.empty((size, width), np.float32)
        signatures[:count] = self._signatures[:count] if count else 0
        self._signatures = signatures
        self._apart = np.resize(self._apart, size) if count else np.empty(size, np.float32)

    def _others(self, index: int) -> NDArray[np.float32]:
        """Return the distances of one candidate to all, infinite to itself."""
        apart = distances(self._signatures[index], self.signatures)
        apart[index] = np.inf
        return apart

    def _most_redundant(self) -> int:
        """Return, of the two most similar candidates, the one more similar to a third."""
        one = int(self._apart[: len(self._names)].argmin())
        from_one = self._others(one)
        other = int(from_one.argmin())
        from_other = self._others(other)
        from_one[other] = from_other[one] = np.inf
        return one if from_one.min() < from_other.min() else other

    def _remove(self, index: int) -> str:
        """Remove a candidate; the last one takes its place."""
        orphans = self._others(index) <= self._apart[: len(self._names)]
        last = len(self._names) - 1
        name = self._names[index]
        self._names[index] = self._names[last]
        self._qualities[index] = self._qualities[last]
        self._names.pop()
        self._qualities.pop()
        for array in (self._signatures, self._apart, orphans):
            array[index] = array[last]
        for orphan in np.flatnonzero(orphans[:last]):
            self._apart[orphan] = self._others(int(orphan)).min(initial=np.inf)
        return name
