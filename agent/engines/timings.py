"""The timing cache: TensorRT's kernel timings, kept to shorten the next build.

It is valid for one version, GPU, driver and power mode. The file contains these and a digest of its
contents, because TensorRT does not reliably detect a file that a power cut damaged.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from agent.core.errors import StoreError
from agent.disk import write_atomically

_LOG = logging.getLogger(__name__)
_MAGIC = b"quantd timing cache 1\n"
_MOST_BYTES = 256 << 20  # those of real models have a few MB


class TimingCache:
    """One file; errors with it are logged and never fail a build.

    Args:
        directory: Of the files; created if absent.
        key: What the timings are valid for: TensorRT's version, the GPU, driver and power mode.
    """

    def __init__(self, directory: str, *key: str) -> None:
        self._key = hashlib.sha256("\n".join(key).encode()).hexdigest()
        self.path = Path(directory, f"{self._key[:16]}.timings")

    def attach(self, config: Any) -> None:
        """Load the file into an IBuilderConfig; a damaged or foreign one is dropped."""
        known = self._read()
        cache = config.create_timing_cache(known)
        if known and (cache is None or not config.set_timing_cache(cache, False)):
            self._drop("TensorRT refuses it")
            cache, known = config.create_timing_cache(b""), b""
        if not known and cache is not None:
            config.set_timing_cache(cache, False)

    def save(self, config: Any) -> None:
        """Write the timings with those that the build added, atomically."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        body = bytes(cache.serialize())
        try:
            for left in self.path.parent.glob(f".{self.path.name}-*"):
                left.unlink(missing_ok=True)  # of a build that was killed while it wrote
            write_atomically(self.path, self._head(body) + body)
        except (StoreError, OSError) as error:
            _LOG.warning("timing_cache_not_kept file=%s %s", self.path, error)

    def _read(self) -> bytes:
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                return self._drop("it is too large")
            found = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            return self._drop(str(error))
        if not found.startswith(_MAGIC):
            return self._drop("it is not a timing cache of quantd")
        body = found[len(self._head(b"")) :]
        if not found.startswith(self._head(body)):
            return self._drop("it is truncated, damaged or of another TensorRT, GPU or driver")
        return body

    def _drop(self, reason: str) -> bytes:
        _LOG.warning("timing_cache_dropped file=%s %s: kernels are timed again", self.path, reason)
        return b""

    def _head(self, body: bytes) -> bytes:
        return _MAGIC + f"{self._key} {hashlib.sha256(body).hexdigest()}\n".encode()
