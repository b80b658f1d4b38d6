"""The engine of the exercises: registry, checks, hints, progress, and the learner's own files."""
