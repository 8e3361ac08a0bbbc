"""Latency, power and energy from raw samples."""
