"""A cache that also serves questions asked in other words, and the means to know when it must not.

Lesson 02, part 4, uses them in this order:

    shared              the process's MiniLM: texts -> vectors whose dot product is the cosine
    labelled_pairs      512 pairs of questions: paraphrases, near-misses, unrelated ones; each a `Pair`
    measured            pairs -> rows: what one cache that holds them all would serve
    calibrate           rows -> the lowest threshold that keeps the bound on false hits, as a report
    draw_similarities   a histogram of cosines per label
    draw_tradeoff       right answers over hits, with guards and without
    report              rows and a threshold -> what would be served, with Wilson's intervals
    SemanticCache       tenant first, then cosine, then guards; exercise 2.5 builds a small one
    GUARDS, refusal     the guards, and the first that refuses a pair, as a `Refusal`

Names are loaded when first used, since the embedding needs NumPy and the drawings matplotlib. Errors:
CalibrationError, SemanticCacheError; and WeightsError of `course_lib.lm.encoder`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
