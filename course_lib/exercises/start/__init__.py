"""The exercise of notebook 00: the module that holds it."""

EXERCISES = ("sort_tickets",)
