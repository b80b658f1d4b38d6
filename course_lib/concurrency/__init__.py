"""Many calls at once, on purpose; see the modules."""
