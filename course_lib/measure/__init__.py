"""What calls cost and how long they take, counted rightly in threads, tasks, streams, nesting and batches.

Names, with the part of lesson 02 (or 03) that uses each:

- `PerformanceMonitor`: a DSPy callback that counts calls, errors, latencies, tokens, cost (part 1)
- `Report`, `Row`: what it counted, a row per model and per program (part 1)
- `percentile`: of durations (part 1)
- `UsageTracker`: for `dspy.context(usage_tracker=...)`; loses nothing in threads (part 5)
- `Usage`, `usage_of`: calls, tokens and dollars, summed over calls (part 5)
- `watch`, `Seen`: how long a block took, and what the model's server saw of it (03, part 1)
- `longest_pause_ms`: for how long a call blocked the event loop (03, part 1)
- `outcomes_of`: how many calls ended, how, and how many requests they took (03, part 6)
- `until_quiet`: waits until no request is under way (03, part 2)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
