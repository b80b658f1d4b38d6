from .tracer import DistributedTracer, TraceLogger, Tracer, Tracing, tree

__all__ = ["DistributedTracer", "TraceLogger", "Tracer", "Tracing", "tree"]
