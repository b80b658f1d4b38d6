"""Run every bench, or those named on the command line; the exit code is 1 if one misses its limit."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    known = sorted(file.stem.removeprefix("bench_") for file in Path(__file__).parent.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no bench named {unknown[0]!r}; known: {', '.join(known)}")
        return 2
    results = [importlib.import_module(f"bench.bench_{name}").main() for name in names or known]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
