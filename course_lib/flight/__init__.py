"""The flight test: a whole system under a scripted sequence of faults, against service levels.

| name | what it is | project |
| --- | --- | --- |
| Documents, Cache, Runner, Tracer, Monitor | what a system is assembled from, as protocols | 1, 2, 3, 4, 6 |
| Servers, Busy | where the servers of a system are; a runner takes no more work | 1, 2, 3 |
| Flown, Scene, Seen, Level, Gate | what a flight returns | 7 |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
