"""Checks of the engine's own promises, for whoever runs it."""

from rave_trio.audit.stress import StressReport, stress_test_synthetic

__all__ = ["StressReport", "stress_test_synthetic"]
