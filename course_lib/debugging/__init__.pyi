from .bottlenecks import Advice, Bottlenecks, bottlenecks
from .golden import GoldenError, golden
from .graph import Graph, execution_graph
from .optimizing import Candidate, OptimizerLog
from .quality import Confusion, ErrorAnalysis, confusion, error_analysis
from .recording import Recording, ask, diff, record, replay

__all__ = [
    "Advice",
    "Bottlenecks",
    "Candidate",
    "Confusion",
    "ErrorAnalysis",
    "GoldenError",
    "Graph",
    "OptimizerLog",
    "Recording",
    "ask",
    "bottlenecks",
    "confusion",
    "diff",
    "error_analysis",
    "execution_graph",
    "golden",
    "record",
    "replay",
]
