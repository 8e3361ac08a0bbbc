"""Activation, recovery after a crash, reuse of earlier frames, and upgrades."""
