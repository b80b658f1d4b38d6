"""Folders and servers for these tests."""

from tests.adapters.conftest import postgres, postgres_folder  # noqa: F401  # fixtures
