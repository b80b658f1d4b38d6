"""What every trial imports, imported once in the process from which they are forked; see proof.py."""

import os

os.environ["DSPY_CACHEDIR"] = "dspy_cache"  # DSPy keeps the name: it leads to each trial's own folder

import dspy  # noqa: F401
import IPython.core.interactiveshell  # noqa: F401
