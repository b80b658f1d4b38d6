"""What calls cost and how long they take, counted rightly in threads, tasks, streams, nesting and batches.

Names, with the part of lesson 02 that uses each:

- `PerformanceMonitor`: a DSPy callback that counts calls, errors, latencies, tokens, cost (part 1)
- `Report`, `Row`: what it counted, a row per model and per program (part 1)
- `percentile`: of durations (part 1)
- `UsageTracker`: for `dspy.context(usage_tracker=...)`; loses nothing in threads (part 5)
- `Usage`, `usage_of`: calls, tokens and dollars, summed over calls (part 5)
"""

from course_lib.measure.monitor import PerformanceMonitor
from course_lib.measure.report import Report, Row, percentile
from course_lib.measure.usage import Usage, UsageTracker, usage_of

__all__ = ["PerformanceMonitor", "Report", "Row", "Usage", "UsageTracker", "percentile", "usage_of"]
