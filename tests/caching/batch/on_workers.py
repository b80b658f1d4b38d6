"""What the workers of test_on_dask.py import."""

from __future__ import annotations

import os
import time
from pathlib import Path


def notes(number: int, folder: str) -> dict[str, int]:
    """Leave a line of who ran the item, and take a little while."""
    with (Path(folder) / f"{number}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.02)
    if number == 7:
        raise ValueError("seven")
    return {"number": number}
