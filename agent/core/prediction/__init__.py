"""Latency and energy predicted before anything is built."""
