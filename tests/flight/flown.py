"""A flight made by hand: two scenes, one level that does not hold, words that would be HTML."""

from __future__ import annotations

from course_lib.flight import Flown, Gate, Level, Scene, Seen


def flown(*, holds: bool = False) -> Flown:
    scenes = [
        Scene("calm", 0.0, 4.0, "Nothing is broken."),
        Scene("outage", 4.0, 8.0, "The <main> model does not answer."),
    ]
    seen = [
        Seen(
            number / 2, 0.2 if number < 8 else 1.5, scenes[number // 8].name, "question", outcome, True, 0.001
        )
        for number, outcome in enumerate(
            ["answered"] * 6 + ["cached"] * 2 + ["degraded"] * 3 + ["failed"] * 5
        )
    ]
    seen.append(Seen(5.0, 0.0, "outage", "job", "lost"))
    levels = [
        Level(
            "availability", "at least 97 %", "70 %", holds, {"outage": 30.0}, "give the <model> a fallback"
        ),
        Level("privacy", "no leak", "none", holds=True),
    ]
    gates = [Gate("coverage", "at least 90 %", "98 %", holds=True)]
    parts = {"cache": "MyCache", "runner": "ours"}
    return Flown(7, "2026-01-02T03:04:05+00:00", {"dspy": "3.4.1"}, parts, scenes, seen, levels, gates)
