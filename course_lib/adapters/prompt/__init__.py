"""Adapters as DSPy means them: they write a prompt from a signature, and read the reply back into fields."""
