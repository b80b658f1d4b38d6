"""Fixtures of the service's tests, for its container."""

from tests.deployment.conftest import _database_of_this_run, service_url

__all__ = ["_database_of_this_run", "service_url"]
