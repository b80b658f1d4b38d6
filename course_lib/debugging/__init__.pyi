from .advice import Advice, Bottlenecks, bottlenecks
from .graph import Graph, execution_graph
from .metrics import MetricsCollector
from .observable import Budget, BudgetExceeded, ObservableModule, observed
from .optimizing import Candidate, OptimizerLog
from .quality import Confusion, ErrorAnalysis, confusion, error_analysis
from .recording import GoldenError, Recording, ask, diff, golden, record, replay
from .requests import TracedRequests
from .tracer import DistributedTracer, TraceLogger, Tracer, Tracing, tree

__all__ = [
    "Advice",
    "Bottlenecks",
    "Budget",
    "BudgetExceeded",
    "Candidate",
    "Confusion",
    "DistributedTracer",
    "ErrorAnalysis",
    "GoldenError",
    "Graph",
    "MetricsCollector",
    "ObservableModule",
    "OptimizerLog",
    "Recording",
    "TraceLogger",
    "TracedRequests",
    "Tracer",
    "Tracing",
    "ask",
    "bottlenecks",
    "confusion",
    "diff",
    "error_analysis",
    "execution_graph",
    "golden",
    "observed",
    "record",
    "replay",
    "tree",
]
