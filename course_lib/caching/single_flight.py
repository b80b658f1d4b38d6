"""Identical requests under way share one call: the mechanism of course_lib.resilience, for the caches."""

from course_lib.resilience.single_flight import SingleFlight

__all__ = ["SingleFlight"]
