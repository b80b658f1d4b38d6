"""The exercises of notebook 00, and what they check."""
