"""The sample section of exercises, and a learner's folder for each test."""

from tests.exercises.conftest import sample_section  # noqa: F401
