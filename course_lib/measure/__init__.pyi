from .monitor import PerformanceMonitor
from .report import Report, Row, percentile
from .seen import Seen, longest_pause_ms, outcomes_of, until_quiet, watch
from .usage import Usage, UsageTracker, usage_of

__all__ = [
    "PerformanceMonitor",
    "Report",
    "Row",
    "Seen",
    "Usage",
    "UsageTracker",
    "longest_pause_ms",
    "outcomes_of",
    "percentile",
    "until_quiet",
    "usage_of",
    "watch",
]
