from .monitor import PerformanceMonitor
from .report import Report, Row, percentile
from .usage import Usage, UsageTracker, usage_of

__all__ = [
    "PerformanceMonitor",
    "Report",
    "Row",
    "Usage",
    "UsageTracker",
    "percentile",
    "usage_of",
]
