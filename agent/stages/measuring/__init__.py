"""Latency and power of all engines together, in interleaved rounds."""
