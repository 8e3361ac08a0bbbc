"""What holds for every test."""

from hypothesis import HealthCheck, settings

# Time never decides a test: machines that run it are shared and slow by turns.
settings.register_profile("quantd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quantd")
