"""What calls cost and how long they take, counted rightly in threads, tasks, streams and batches.

Main path: `with PerformanceMonitor() as monitor: ...`, then monitor.report().
"""

from course_lib.measure.monitor import PerformanceMonitor

__all__ = ["PerformanceMonitor"]
