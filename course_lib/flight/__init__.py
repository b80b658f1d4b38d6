"""The flight test: a whole system under a scripted sequence of faults, against service levels.

| name | what it is | project |
| --- | --- | --- |
| Documents, Cache, Runner, Tracer, Monitor | what a system is assembled from, as protocols | 1, 2, 3, 4, 6 |
| Worker, Canary, System, Made | what does its jobs, tries its versions, and joins all parts | 7 |
| Servers, Busy | where the servers of a system are; a runner takes no more work | 1, 2, 3 |
| Request, Reply, Job | what customers send, and get | 7 |
| Parts, ours, Desk, TicketWorker | how each is made; ours, our system, our worker | 7 |
| fly, flying, Tick | a flight, plain and in an event loop; how far it is | 7 |
| MECHANISMS, Row, mechanisms | what can be switched off, and what fails then (recorded) | 7 |
| Flown, Scene, Seen, Level, Gate, recorded | what a flight returns; the one that was recorded | 7 |
| keep, kept | the learner's last flight, written to the work folder and read again | 7 |
| certificate, measured_gates | a page to print; the quality gates, measured in ten seconds | 7 |
| fly_program, ProgramError | a program of one's own in the same weather; why it cannot be flown | 7 |
| ScriptError | a flight that cannot be flown so | 7 |

Main path: fly(Parts(cache=lambda servers: MyCache(servers.redis_url)), seed=7) -> Flown.
`python -m course_lib.flight.recording` records a flight and the table of mechanisms anew.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
