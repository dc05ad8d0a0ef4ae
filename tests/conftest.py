"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Tests are not timed: a busy machine is no bug.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
