"""Debugging and tracing: what a program did, where, how long it took, and what it cost.

The parts are those of `lessons/04_debugging.py`. Names are loaded when first used, so the face costs nothing.

| name | what it is | part |
| --- | --- | --- |
| Tracing | `with Tracing(enabled=True) as tracer:` traces a block | 3 |
| Tracer | spans of every call, in memory, a file, a collector; over threads, tasks, HTTP, queues | 3 |
| DistributedTracer | a Tracer whose spans go to a collector, under a service's name | 3 |
| TracedRequests | middleware: a server's requests as spans of whoever asked (exercise 4.3) | 3 |
| tree | spans as an indented text | 3 |
| TraceLogger | one line of JSON a span (exercise 4.2) | 2 |
| MetricsCollector | metrics for Prometheus (exercise 4.1) | 2 |
| ObservableModule | a program with metrics, listeners and budgets | 2 |
| Budget, BudgetExceeded | what a request or a tenant may spend; it is spent | 2 |
| observed | an LM whose every attempt is seen, DSPy's own retries too | 2 |
| execution_graph, Graph | who called whom, how often, how long: a picture of a run | 3 |
| record, replay | a run captured at the model's boundary, replayed without one (exercise 4.4) | 4 |
| Recording, ask, diff | its steps, to read and to edit; one asked again; two runs compared | 4 |
| golden, GoldenError | a run that is kept, as a regression test | 4 |
| error_analysis, ErrorAnalysis | the first step that went wrong, for each example | 5 |
| confusion, Confusion | which labels are taken for which | 5 |
| OptimizerLog, Candidate | what an optimizer tried, from what, and which examples it won and lost | 5 |
| bottlenecks, Bottlenecks, Advice | where time and tokens went, and what would save some | 6 |

What is personal or secret is taken out by `course_lib.redaction`.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
