"""The exercises of section 2, and what they check."""
