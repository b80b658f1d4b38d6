from .cache import SemanticCache, SemanticCacheError, shared
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

__all__ = [
    "GUARDS",
    "CalibrationError",
    "Pair",
    "Refusal",
    "SemanticCache",
    "SemanticCacheError",
    "calibrate",
    "draw_similarities",
    "draw_tradeoff",
    "labelled_pairs",
    "measured",
    "refusal",
    "report",
    "shared",
]
