"""Fakes that tests and benchmarks share: a clock that stands still, and a server that speaks the API.

Nothing of tnfd imports this package, and it needs nothing but the standard library.
"""

from tnfd.testing.clock import FakeClock

__all__ = ["FakeClock"]
