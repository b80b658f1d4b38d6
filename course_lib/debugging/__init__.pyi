from .metrics import MetricsCollector
from .observable import Budget, BudgetExceeded, ObservableModule, observed
from .requests import TracedRequests
from .tracer import DistributedTracer, TraceLogger, Tracer, Tracing, tree

__all__ = [
    "Budget",
    "BudgetExceeded",
    "DistributedTracer",
    "MetricsCollector",
    "ObservableModule",
    "TraceLogger",
    "TracedRequests",
    "Tracer",
    "Tracing",
    "observed",
    "tree",
]
