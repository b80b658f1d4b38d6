"""The exercise of notebook 00: its id, and the module that holds it."""

EXERCISES = {"0.1": "sort_tickets"}
