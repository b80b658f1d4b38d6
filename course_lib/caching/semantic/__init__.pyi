from .cache import SemanticCache, SemanticCacheError
from .calibration import (
    CalibrationError,
    Pair,
    calibrate,
    draw_similarities,
    draw_tradeoff,
    labelled_pairs,
    measured,
    report,
)
from .guards import GUARDS, Refusal, refusal
from .minilm import MiniLM, WeightsError, shared

__all__ = [
    "GUARDS",
    "CalibrationError",
    "MiniLM",
    "Pair",
    "Refusal",
    "SemanticCache",
    "SemanticCacheError",
    "WeightsError",
    "calibrate",
    "draw_similarities",
    "draw_tradeoff",
    "labelled_pairs",
    "measured",
    "refusal",
    "report",
    "shared",
]
