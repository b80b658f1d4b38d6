"""A DSPy program of one's own in the weather of a flight, on the simulated model, without a service.

Main path: fly_program("my_module:MyProgram", Path("questions.jsonl")) -> Flown, with what would have helped.
The program runs in a process of its own (program.py), which is ended when the time is up; what is told comes
from when its answers came, and from the endpoint's ledger and verdict. Questions come three a second, whether
those before are answered or not. The model has no cache, so that each of them meets the weather.
"""

from __future__ import annotations

import json
import math
import os
import platform
import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

from course_lib import lm
from course_lib.flight.program import GO, ProgramError
from course_lib.flight.result import Flown, Level, Scene, Seen
from course_lib.lm.client import call as ask_endpoint
from course_lib.measure import percentile
from course_lib.paths import ROOT
from course_lib.redaction import one_line
from course_lib.services.child import STOP, Child

PER_S, DEADLINE_S = 3.0, 10.0
"""Questions a second; what is longer under way than that is too late for whoever asked."""
_READY_S, _TRIED_S, _GRACE_S, _LOOK_S, _MOST_TOLD = 60.0, 30.0, 12.0, 0.5, 5
_PROFILE = "own-program"
_USUAL = {"ttft_p50_ms": 150, "ttft_p99_ms": 400, "speed_p50_tokens_per_s": 400}
_SLOW, _LIMIT, _OUTAGE, _MALFORMED, _HANG = "slow", "rate limit", "outage", "malformed", "hang"
_TTFT_SLOW_MS = 1500
_SLOWLY = {"ttft_p50_ms": _TTFT_SLOW_MS, "ttft_p99_ms": 2500, "speed_p50_tokens_per_s": 30}
_UNREADABLE = {"missing_field_rate": 0.35, "broken_json_rate": 0.2, "cut_by_length_rate": 0.2}
_WEATHER: tuple[tuple[str, float, str, Mapping[str, Any]], ...] = (
    ("calm", 5, "Nothing is broken.", {}),
    (_LIMIT, 7, "The model takes three fifths of what comes.", {}),
    (_SLOW, 6, "The model is slow.", _SLOWLY),
    (_MALFORMED, 6, "Three answers of four cannot be read.", _UNREADABLE),
    (_HANG, 5, "Half of the requests get no answer.", {"hang_rate": 0.5}),
    (_OUTAGE, 8, "The model does not answer.", {"unavailable_rate": 0.9, "cut_before_rate": 0.1}),
    ("afterwards", 4, "Nothing is broken any more.", {}),
)
"""Name, seconds, what is broken, and what of the model's profile. What is tried again in one scene falls into
the next: so none that refuses stands before one that refuses too."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the program did, and what the endpoint saw of it."""

    scenes: list[Scene]
    seen: list[Seen]
    errors: dict[str, Counter[str]]
    """By scene."""
    open: int
    """So many questions had no end."""
    calls: list[lm.Call]
    """From the first request of the weather on, whose at_s is 0."""
    began_s: float
    """When that was, on the ledger's clock."""
    verdict: lm.Verdict
    repeated: int
    """So many lines of the file are as an earlier one."""
    lines: int

    def of(self, scene: str) -> list[Seen]:
        return [each for each in self.seen if each.scene == scene]

    def failed(self, scene: str) -> int:
        return sum(each.outcome == "failed" for each in self.of(scene))

    def requests(self, scene: Scene) -> list[lm.Call]:
        return [each for each in self.calls if scene.begins_s <= each.at_s - self.began_s < scene.ends_s]

    def named(self, name: str) -> Scene:
        return next(scene for scene in self.scenes if scene.name == name)


def read_inputs(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the JSON objects of a file, one a line, and the number of each line; empty lines are left out.

    Raises:
        ProgramError: the file cannot be read or has none, or lines are no JSON objects; each with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProgramError(f"{path} cannot be read: {error}") from None
    inputs, numbers, wrong = [], [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            wrong.append(f"line {number} is no JSON ({error})")
            continue
        if not isinstance(fields, dict):
            wrong.append(f"line {number} is {line.strip()[:40]!r}, and not an object of fields")
            continue
        inputs.append(fields)
        numbers.append(number)
    if wrong:
        more = f"; and {len(wrong) - _MOST_TOLD} more" if len(wrong) > _MOST_TOLD else ""
        raise ProgramError(f"{path}: {'; '.join(wrong[:_MOST_TOLD])}{more}")
    if not inputs:
        raise ProgramError(f'{path} has no line; give one like {{"question": "..."}} for each question')
    return inputs, numbers


def fly_program(
    spec: str,
    inputs: Path,
    *,
    seed: int = 7,
    speed: float = 1.0,
    on_tick: Callable[[str], object] = lambda _: None,
) -> Flown:
    """Fly a program, which takes about a minute.

    Args:
        spec: `module:Name`, of a class or an object; the module is looked for in the current folder first.
        inputs: a file with a JSON object of the program's fields a line.
        seed: of the model's faults and times.
        speed: 2.0 halves every scene, for a trial.
        on_tick: is told how it goes, in words.

    Raises:
        ProgramError: the program or its inputs cannot be flown, and why.
    """
    fields, lines = read_inputs(inputs)
    edges = [0.0, *accumulate(seconds / speed for _, seconds, _, _ in _WEATHER)]
    scenes = [Scene(name, edges[at], edges[at + 1], told) for at, (name, _, told, _) in enumerate(_WEATHER)]
    at_s = [number / PER_S for number in range(int(edges[-1] * PER_S))]
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with (
        tempfile.TemporaryDirectory(prefix="course-flight-") as folder,
        _Program(spec, Path(folder)) as program,
    ):
        since = lm.ledger().requests
        program.start({"spec": spec, "inputs": fields, "lines": lines, "at_s": at_s})
        on_tick("the program is loaded, and asked once on a calm day")
        program.tried()
        per_answer = lm.ledger().requests - since
        if not per_answer:
            told = "it answered the first line without a request to the simulated model"
            raise ProgramError(f"{spec}: {told}; leave the choice of the model to dspy.configure()")
        windows = [
            _window(scene, weather, per_answer) for scene, weather in zip(scenes, _WEATHER, strict=True)
        ]
        lm.profile(_PROFILE, **_USUAL, seed=seed, timeline=windows)
        since = lm.ledger().requests
        end_s = scenes[-1].ends_s + _GRACE_S / speed
        ended = program.fly(scenes, len(at_s), end_s, on_tick)
    seen, errors, left = _seen(scenes, at_s, ended, end_s)
    ledger = lm.Ledger.from_json(ask_endpoint("GET", f"/course/ledger?since={since}&figures=1"))
    calls = sorted(ledger.calls, key=lambda call: call.at_s)
    repeated = len(fields) - len({json.dumps(each, sort_keys=True) for each in fields})
    first_s = calls[0].at_s if calls else 0.0
    asked = _Asked(scenes, seen, errors, left, calls, first_s, lm.verdict(since), repeated, len(fields))
    return _judged(asked, spec, seed, began)


def _window(scene: Scene, weather: tuple[Any, ...], per_answer: int) -> tuple[float, float, dict[str, Any]]:
    faults = dict(weather[3])
    if scene.name == _LIMIT:
        faults["limit_requests_per_s"] = max(1.0, round(0.6 * PER_S * per_answer, 1))
    return (scene.begins_s, scene.ends_s, faults)


class _Program:
    """The owner's side of the process in which the program runs."""

    def __init__(self, spec: str, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._child: Child | None = None

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.stop(STOP, patience_s=1.0)

    def start(self, task: dict[str, Any]) -> None:
        """Start the process; nothing is written to the folder in which it runs."""
        read, written = os.pipe()
        path = self._folder / "task.json"
        path.write_text(
            json.dumps({**task, "model": f"sim-large@{_PROFILE}", "pipe": written, "owner": os.getpid()}),
            "utf-8",
        )
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key(), "PYTHONPATH": paths}
        own |= {"PYTHONDONTWRITEBYTECODE": "1", "DSPY_CACHEDIR": str(self._folder / "cache")}
        with (self._folder / "log").open("wb") as log:
            self._child = Child(
                [sys.executable, "-P", "-m", "course_lib.flight.program", str(path)],
                stdout=log,
                stderr=log,
                pass_fds=[written],
                env={**os.environ, **own},
            )
        os.close(written)
        threading.Thread(target=self._listen, args=(read,), daemon=True).start()

    def _listen(self, read: int) -> None:
        with os.fdopen(read, encoding="utf-8") as pipe:
            for line in pipe:
                with suppress(ValueError):  # half a line of a process that was killed
                    self._told.put(json.loads(line))
        self._told.put({"gone": True})

    def tried(self) -> None:
        """Wait until it has answered the first line."""
        try:
            told = self._told.get(timeout=_READY_S + _TRIED_S)
        except queue.Empty:
            words = f"it is not ready, or has not answered the first line, after {_READY_S + _TRIED_S:.0f} s"
            raise ProgramError(f"{self._spec}: {words}") from None
        if "refused" in told:
            raise ProgramError(str(told["refused"]))
        if "gone" in told:
            lines = (self._folder / "log").read_text("utf-8", errors="replace").strip().splitlines()
            last = one_line(lines[-1]) if lines else "nothing"
            raise ProgramError(
                f"{self._spec}: its process ended when it was loaded or tried; it wrote: {last}"
            )
        if told["tried"]:
            words = f"it fails with the first line, though the model is calm: {one_line(told['tried'])}"
            raise ProgramError(f"{self._spec}: {words}")

    def fly(
        self, scenes: Sequence[Scene], count: int, end_s: float, on_tick: Callable[[str], object]
    ) -> list[dict[str, Any]]:
        """Have it ask everything; return what ended in time, and kill what did not."""
        assert self._child is not None
        assert self._child.process.stdin is not None
        with suppress(OSError):
            self._child.process.stdin.write(GO)
        begun_s, ended, scene = time.perf_counter(), list[dict[str, Any]](), ""
        while len(ended) < count and time.perf_counter() - begun_s < end_s:
            now_s = time.perf_counter() - begun_s
            told = [each for each in scenes if each.begins_s <= now_s < each.ends_s]
            if told and told[0].name != scene:
                scene = told[0].name
                on_tick(f"{now_s:3.0f} s  {scene}: {told[0].told} {len(ended)} questions have ended")
            with suppress(queue.Empty):
                one = self._told.get(timeout=_LOOK_S)
                if "gone" in one:
                    on_tick("the program has ended its own process")
                    break
                ended.append(one)
        return ended


# -- what it says --------------------------------------------------------------------------------------


def _seen(
    scenes: Sequence[Scene], at_s: Sequence[float], ended: Sequence[Mapping[str, Any]], end_s: float
) -> tuple[list[Seen], dict[str, Counter[str]], int]:
    """Return each question as it ended, the errors by scene, and how many have no end."""
    by_number = {each["ended"]: each for each in ended}
    seen, errors = [], {scene.name: Counter[str]() for scene in scenes}
    for number, due_s in enumerate(at_s):
        one = by_number.get(number, {"at_s": due_s, "took_s": end_s - due_s, "error": "no end"})
        name = next(scene.name for scene in reversed(scenes) if scene.begins_s <= due_s)
        outcome = "failed" if one["error"] else "answered"
        seen.append(Seen(round(one["at_s"], 3), round(one["took_s"], 3), name, "question", outcome))
        if one["error"]:
            errors[name][one_line(one["error"]).partition(":")[0].rpartition(".")[2]] += 1
    return seen, errors, len(at_s) - len(by_number)


def _judged(asked: _Asked, spec: str, seed: int, began: str) -> Flown:
    priced = []
    for scene in asked.scenes:
        seen = asked.of(scene.name)
        cost = sum(each.cost_usd for each in asked.requests(scene)) / max(1, len(seen))
        priced += [replace(each, cost_usd=cost) for each in seen]
    names = {"DSPy": "dspy", "course": "advanced-dspy-course"}
    versions = {"Python": platform.python_version(), **{key: version(name) for key, name in names.items()}}
    helps = [words for _, words in sorted(_helps(asked), reverse=True)]
    levels = _levels(asked)
    return Flown(seed, began, versions, {"program": spec}, asked.scenes, priced, levels, helps=helps)


def _levels(asked: _Asked) -> list[Level]:
    lost = {scene.name: float(asked.failed(scene.name)) for scene in asked.scenes}
    p99_s = {name: percentile([each.took_s for each in asked.of(name)], 99) for name in lost}
    per = {
        scene.name: len(asked.requests(scene)) / max(1, len(asked.of(scene.name))) for scene in asked.scenes
    }
    total, all_lost, found = len(asked.seen), int(sum(lost.values())), asked.verdict.findings
    share, worst = 100 * (total - all_lost) / total, max(p99_s, key=lambda name: p99_s[name])
    slowest_s = percentile([each.took_s for each in asked.seen], 99)
    per_answer = len(asked.calls) / max(1, total - all_lost)
    errors = sum(asked.errors.values(), Counter[str]()).most_common(4)
    why = f"{all_lost} had no answer: {', '.join(f'{count} {name}' for name, count in errors)}"
    misdeeds = ", ".join(f"{each.count} x {each.kind}" for each in found) or "nothing"
    told = {
        "answers": ("at least 95 %", f"{share:.1f} % of {total}", share >= 95, lost, why),
        "p99 latency": (
            *(f"at most {DEADLINE_S:.0f} s", f"{slowest_s:.1f} s", slowest_s <= DEADLINE_S, p99_s),
            f"the slowest scene is {worst}",
        ),
        "every question ends": (
            *(f"within {_GRACE_S:.0f} s of the last one", f"{asked.open} without an end", not asked.open),
            *({}, "give every call a deadline"),
        ),
        "requests per answer": (
            *(f"at most {2 * per['calm']:.3g}", f"{per_answer:.3g}", per_answer <= 2 * per["calm"], per),
            "fewer retries while the model is out: a circuit breaker",
        ),
        "conduct": (
            *("nothing to be said against it", misdeeds, not found, {}),
            "; ".join(each.sentence for each in found),
        ),
    }
    return [Level(name, *each) for name, each in told.items()]


def _helps(asked: _Asked) -> list[tuple[tuple[float, float, float], str]]:
    """Return what would have helped, each with its gain: answers, then seconds, then dollars."""
    found: list[tuple[tuple[float, float, float], str]] = []

    def of(scene: str) -> str:
        return f"{asked.failed(scene)} of {len(asked.of(scene))} questions failed"

    refused = [each for each in asked.requests(asked.named(_LIMIT)) if each.status == 429]
    early = sum(each.count for each in asked.verdict.findings if each.kind == "retry_after_ignored")
    if (lost := asked.failed(_LIMIT)) or early:
        wait_s = max((each.retry_after_s for each in refused), default=0.0)
        told = f"{of(_LIMIT)} under the rate limit, where {len(refused)} refusals said to come again after "
        told += f"{wait_s:.1f} s at most; {early} requests came too early"
        way = (
            "Retries that obey Retry-After" if early else "More retries, each after the wait that it is told"
        )
        found.append(((lost, 0, 0), f"{way}: {told}."))
    if lost := asked.failed(_OUTAGE):
        gone = sum(each.is_failed for each in asked.requests(asked.named(_OUTAGE)))
        told = f"{of(_OUTAGE)} in the outage, after {gone} failed requests"
        found.append(((lost, 0, 0), f"A fallback to a second model: {told}."))
    if lost := asked.failed(_MALFORMED):
        found.append(
            ((lost, 0, 0), f"Asking again, or another adapter: {of(_MALFORMED)} over unreadable answers.")
        )
    if late := [each.took_s for each in asked.seen if each.took_s > DEADLINE_S]:
        over_s = sum(late) - DEADLINE_S * len(late)
        told = (
            f"{len(late)} questions took longer than {DEADLINE_S:.0f} s, {asked.open} of them without an end"
        )
        told += f", which is {over_s:.0f} s of waiting more than that"
        found.append(((asked.failed(_HANG), over_s, 0), f"A deadline, and then another try: {told}."))
    if asked.repeated:
        share, cost = asked.repeated / asked.lines, sum(each.cost_usd for each in asked.calls)
        told = f"{asked.repeated} of {asked.lines} lines are as an earlier one, which is the share of "
        told += f"{share * len(asked.calls):.0f} requests and ${share * cost:.4f}"
        found.append(((0, 0, share * cost), f"A cache: {told}."))
    slow = [each.duration_ms for each in asked.requests(asked.named(_SLOW)) if each.status == 200]
    if slow and not any(each.stream for each in asked.calls):
        whole_s, first_s = percentile(slow, 50) / 1000, _TTFT_SLOW_MS / 1000
        told = f"when the model was slow, half of its answers took more than {whole_s:.1f} s, and could be "
        told += f"read from {first_s} s on"
        found.append(((0, (whole_s - first_s) * len(slow), 0), f"Streaming: {told}."))
    waiting = max(sum(a.at_s <= b.at_s < a.at_s + a.took_s for a in asked.seen) for b in asked.seen)
    if max((each.at_once for each in asked.calls), default=0) <= 1 < waiting:
        told = f"up to {waiting} questions waited, and never more than one request was under way"
        found.append(((math.inf, 0, 0), f"Concurrency: {told}."))
    return found
