"""What holds for every test."""

from hypothesis import HealthCheck, settings

# Time never decides a test: machines that run it are shared and slow by turns.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The fast set looks at a few examples of each property; tests/run_all asks for the others.
settings.register_profile("quick", _UNTIMED, max_examples=15)
settings.register_profile("thorough", _UNTIMED, max_examples=100)
settings.load_profile("quick")
