"""Exercises of lesson 02: all six are there."""

from __future__ import annotations

from course_lib.exercises.engine import registry


def test_the_section_has_its_six_exercises_in_order():
    ids = [exercise.id for exercise in registry.exercises() if exercise.lesson == "02_caching"]

    assert ids == ["2.1", "2.2", "2.3", "2.4", "2.5", "2.6"]
