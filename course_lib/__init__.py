"""The library under the notebooks of the Advanced DSPy course."""
