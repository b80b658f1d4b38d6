"""The exercises of section 1, and what they check."""
