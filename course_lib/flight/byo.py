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
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from course_lib import lm
from course_lib.flight.program import GO, ProgramError
from course_lib.flight.result import Flown, Level, Scene, Seen, versions
from course_lib.lm.client import call as ask_endpoint
from course_lib.measure import percentile
from course_lib.paths import ROOT
from course_lib.redaction import one_line
from course_lib.services.child import STOP, Child

PER_S, DEADLINE_S = 3.0, 10.0
"""Questions a second; what is longer under way than that is too late for whoever asked."""
_READY_S, _GRACE_S, _LOOK_S, _MOST_TOLD = 90.0, 12.0, 0.2, 5
_FIELDS = TypeAdapter(dict[str, Any])
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
    errors: Counter[str]
    """What was raised, by its kind."""
    raised: Counter[str]
    """How often something was that the weather has made, by scene."""
    own: set[str]
    """What the program raises on a calm day too, by its kind."""
    open: int
    """So many questions had no end."""
    calls: list[lm.Call]
    """From the first request of the weather on."""
    verdict: lm.Verdict
    lines: int
    repeated: int
    """So many lines of the file are as an earlier one."""

    def of(self, scene: str) -> list[Seen]:
        return [each for each in self.seen if each.scene == scene]

    def requests(self, name: str) -> list[lm.Call]:
        scene = next(each for each in self.scenes if each.name == name)
        began_s = self.calls[0].at_s if self.calls else 0.0
        return [each for each in self.calls if scene.begins_s <= each.at_s - began_s < scene.ends_s]

    def begun(self, name: str) -> list[lm.Call]:
        """Return the requests of what was first asked in a scene, those that came again later among them."""
        first_s: dict[str, float] = {}
        for each in self.calls:
            first_s.setdefault(each.question or each.request_id, each.at_s - self.calls[0].at_s)
        scene = next(each for each in self.scenes if each.name == name)
        return [
            each
            for each in self.calls
            if scene.begins_s <= first_s[each.question or each.request_id] < scene.ends_s
        ]

    def priced(self) -> list[Seen]:
        """Return the questions, each with its part of what its scene cost."""
        cost = {each.name: sum(call.cost_usd for call in self.begun(each.name)) for each in self.scenes}
        return [replace(each, cost_usd=cost[each.scene] / len(self.of(each.scene))) for each in self.seen]


def read_inputs(path: Path) -> dict[int, dict[str, Any]]:
    """Return the JSON objects of a file by the number of their line; empty lines are left out.

    Raises:
        ProgramError: the file cannot be read or has none, or lines are no JSON objects; each with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a question may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise ProgramError(f"{path} cannot be read: {error}") from None
    inputs: dict[int, dict[str, Any]] = {}
    wrong = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                inputs[number] = _FIELDS.validate_json(line)
            except ValidationError as error:
                wrong.append(f"line {number}: {error.errors()[0]['msg']}")
    if wrong:
        more = f"; and {len(wrong) - _MOST_TOLD} more" if len(wrong) > _MOST_TOLD else ""
        raise ProgramError(f"{path}: {'; '.join(wrong[:_MOST_TOLD])}{more}")
    if not inputs:
        raise ProgramError(f'{path} has no line; give one like {{"question": "..."}} for each question')
    return inputs


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
    lines = read_inputs(inputs)
    edges = [0.0, *accumulate(seconds / speed for _, seconds, _, _ in _WEATHER)]
    scenes = [Scene(name, edges[at], edges[at + 1], told) for at, (name, _, told, _) in enumerate(_WEATHER)]
    at_s = [number / PER_S for number in range(int(edges[-1] * PER_S))]
    began, end_s = datetime.now(UTC).isoformat(timespec="seconds"), edges[-1] + _GRACE_S / speed
    with tempfile.TemporaryDirectory(prefix="course-flight-") as folder:
        since = lm.ledger().requests
        program = _Program(Path(folder), {"spec": spec, "inputs": lines, "at_s": at_s})
        try:
            on_tick("the program is being loaded, and asked once on a calm day")
            program.tried()
            per_answer = lm.ledger().requests - since
            if not per_answer:
                told = f"{spec} answered the first line without a request to the simulated model"
                raise ProgramError(f"{told}; only what is asked through a dspy.LM meets the weather")
            lm.profile(_PROFILE, **_USUAL, seed=seed, timeline=_timeline(scenes, per_answer))
            since = lm.ledger().requests
            ended = program.fly(scenes, len(at_s), end_s, on_tick)
        finally:
            program.stop()
        parts = {"program": spec} | dict.fromkeys(program.others(), "simulated")
    ledger = lm.Ledger.from_json(ask_endpoint("GET", f"/course/ledger?since={since}&figures=1"))
    distinct = {json.dumps(each, sort_keys=True) for each in lines.values()}
    raised = [each for each in ended.values() if each["error"]]
    own = {_kind(each["error"]) for each in raised if _seen(scenes, each).scene == scenes[0].name}
    asked = _Asked(
        scenes=scenes,
        seen=[
            _seen(scenes, ended.get(number, {"at_s": due_s, "took_s": end_s - due_s, "error": "no end"}))
            for number, due_s in enumerate(at_s)
        ],
        errors=Counter(_kind(each["error"]) for each in raised),
        raised=Counter(_seen(scenes, each).scene for each in raised if _kind(each["error"]) not in own),
        own=own,
        open=len(at_s) - len(ended),
        calls=sorted(ledger.calls, key=lambda call: call.at_s),
        verdict=lm.verdict(since),
        lines=len(lines),
        repeated=len(lines) - len(distinct),
    )
    helps = [words for _, words in sorted(_helps(asked), reverse=True)]
    return Flown(seed, began, versions(), parts, scenes, asked.priced(), _levels(asked), helps=helps)


def _timeline(scenes: Sequence[Scene], per_answer: int) -> list[tuple[float, float, Mapping[str, Any]]]:
    limit = {"limit_requests_per_s": max(1.0, round(0.6 * PER_S * per_answer, 1))}
    return [
        (scene.begins_s, scene.ends_s, limit if scene.name == _LIMIT else faults)
        for scene, (_, _, _, faults) in zip(scenes, _WEATHER, strict=True)
    ]


def _seen(scenes: Sequence[Scene], one: Mapping[str, Any]) -> Seen:
    name = next((scene.name for scene in reversed(scenes) if scene.begins_s <= one["at_s"]), scenes[0].name)
    outcome = "failed" if one["error"] else "answered"
    return Seen(round(one["at_s"], 3), round(one["took_s"], 3), name, "question", outcome)


def _kind(error: str) -> str:
    return error.partition(":")[0].rpartition(".")[2]


class _Program:
    """The owner's side of the program's process, which writes what it has to say to a file."""

    def __init__(self, folder: Path, task: Mapping[str, Any]) -> None:
        """Start it; nothing is written to the folder in which it runs."""
        self._spec, self._log, self._said = task["spec"], folder / "log", folder / "said"
        self._said.touch()
        path = folder / "task.json"
        known = {"model": f"sim-large@{_PROFILE}", "said": str(self._said), "owner": os.getpid()}
        path.write_text(json.dumps({**task, **known}), "utf-8")
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key(), "PYTHONPATH": paths}
        own |= {"PYTHONDONTWRITEBYTECODE": "1", "DSPY_CACHEDIR": str(folder / "cache")}
        command = [sys.executable, "-P", "-m", "course_lib.flight.program", str(path)]
        with self._log.open("wb") as log:
            self._child = Child(command, stdout=log, stderr=log, env={**os.environ, **own})

    def stop(self) -> None:
        """End it and what it has started, whatever it does."""
        self._child.stop(STOP, patience_s=1.0)
        with suppress(OSError):  # none is left, which is usual
            os.killpg(self._child.process.pid, signal.SIGKILL)

    def others(self) -> list[str]:
        """Return the models that it asked beside its own; all of it went to the simulated one."""
        return [each["other"] for each in self._told() if "other" in each]

    def _told(self) -> list[dict[str, Any]]:
        """Return what it has said so far; its last line may not be whole yet."""
        return [json.loads(line) for line in self._said.read_text("utf-8").split("\n")[:-1]]

    def tried(self) -> None:
        """Wait until it has answered the first line."""
        give_up_s, told = time.perf_counter() + _READY_S, list[dict[str, Any]]()
        while not told and self._child.is_running() and time.perf_counter() < give_up_s:
            time.sleep(_LOOK_S)
            told = [each for each in self._told() if "other" not in each]
        if told and "refused" in told[0]:
            raise ProgramError(told[0]["refused"])
        if told and not told[0]["tried"]:
            return
        words = f"it has not answered the first line after {_READY_S:.0f} s"
        if told:
            words = f"it fails with the first line, though the model is calm: {told[0]['tried']}"
        elif not self._child.is_running():
            lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
            words = (
                f"its process has ended by itself; it wrote: {one_line(lines[-1]) if lines else 'nothing'}"
            )
        raise ProgramError(f"{self._spec}: {words}")

    def fly(
        self, scenes: Sequence[Scene], count: int, end_s: float, on_tick: Callable[[str], object]
    ) -> dict[int, dict[str, Any]]:
        """Have it ask everything; return what has ended in time, by number."""
        assert self._child.process.stdin is not None
        with suppress(OSError):
            self._child.process.stdin.write(GO)
        begun_s, coming, ended = time.perf_counter(), list(scenes), dict[int, dict[str, Any]]()
        while len(ended) < count and (now_s := time.perf_counter() - begun_s) < end_s:
            if coming and coming[0].begins_s <= now_s:
                scene = coming.pop(0)
                on_tick(f"{now_s:3.0f} s  {scene.name}: {scene.told} {len(ended)} questions have ended")
            if not self._child.is_running():
                on_tick("the program has ended its own process")
                break
            time.sleep(_LOOK_S)
            ended = {each["ended"]: each for each in self._told() if "ended" in each}
        return ended


# -- what it says --------------------------------------------------------------------------------------


def _levels(asked: _Asked) -> list[Level]:
    failed = Counter(each.scene for each in asked.seen if each.outcome == "failed")
    lost = {scene.name: float(failed[scene.name]) for scene in asked.scenes}
    took_s = {name: [each.took_s for each in asked.of(name)] for name in lost}
    p99_s = {name: percentile(each, 99) for name, each in took_s.items() if each}
    per = {name: len(asked.begun(name)) / max(1, len(asked.of(name))) for name in lost}
    total, all_lost, found = len(asked.seen), int(sum(lost.values())), asked.verdict.findings
    share, worst = 100 * (total - all_lost) / total, max(p99_s, key=lambda name: p99_s[name])
    slowest_s = percentile([each.took_s for each in asked.seen], 99)
    per_answer = len(asked.calls) / max(1, total - all_lost)
    errors = [*asked.errors.most_common(4), *([("without an end", asked.open)] if asked.open else [])]
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


def _many(count: int, what: str = "request") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _helps(asked: _Asked) -> list[tuple[tuple[float, float, float], str]]:
    """Return what would have helped, each with its gain: answers, then seconds, then dollars."""
    found: list[tuple[tuple[float, float, float], str]] = []

    def of(scene: str) -> str:
        return f"{asked.raised[scene]} of {len(asked.of(scene))} questions failed"

    refused = [each for each in asked.requests(_LIMIT) if each.status == 429]
    early = sum(each.count for each in asked.verdict.findings if each.kind == "retry_after_ignored")
    if (lost := asked.raised[_LIMIT]) or early:
        wait_s = max((each.retry_after_s for each in refused), default=0.0)
        told = f"{of(_LIMIT)} under the rate limit, where {len(refused)} refusals said to come again after "
        told += f"{wait_s:.1f} s at most; {_many(early)} came too early"
        way = (
            "Retries that obey Retry-After" if early else "More retries, each after the wait that it is told"
        )
        found.append(((lost, 0, 0), f"{way}: {told}."))
    if lost := asked.raised[_OUTAGE]:
        gone = sum(each.is_failed for each in asked.requests(_OUTAGE))
        told = f"{of(_OUTAGE)} in the outage, after {_many(gone, 'failed request')}"
        found.append(((lost, 0, 0), f"A fallback to a second model: {told}."))
    if lost := asked.raised[_MALFORMED]:
        found.append(
            ((lost, 0, 0), f"Asking again, or another adapter: {of(_MALFORMED)} over unreadable answers.")
        )
    if late := [each.took_s for each in asked.seen if each.took_s > DEADLINE_S]:
        over_s = sum(late) - DEADLINE_S * len(late)
        told = f"{len(late)} questions took longer than {DEADLINE_S:.0f} s, {over_s:.0f} s more in all, and "
        told += f"{asked.open} had no end when the flight had one"
        found.append(((asked.open, over_s, 0), f"A deadline, and then another try: {told}."))
    if asked.repeated:
        share, cost = asked.repeated / asked.lines, sum(each.cost_usd for each in asked.calls)
        told = f"{asked.repeated} of {asked.lines} lines are as an earlier one, which is the share of "
        told += f"{_many(round(share * len(asked.calls)))} and ${share * cost:.4f}"
        found.append(((0, 0, share * cost), f"A cache: {told}."))
    slow = [each.duration_ms for each in asked.requests(_SLOW) if each.status == 200]
    if slow and not any(each.stream for each in asked.calls):
        whole_s, first_s = percentile(slow, 50) / 1000, _TTFT_SLOW_MS / 1000
        told = f"when the model was slow, half of its answers took more than {whole_s:.1f} s, and could be "
        told += f"read from {first_s} s on"
        found.append(((0, (whole_s - first_s) * len(slow), 0), f"Streaming: {told}."))
    if count := sum(asked.errors[kind] for kind in asked.own):
        kinds = ", ".join(sorted(asked.own))
        found.append(
            ((count, 0, 0), f"The program itself: {count} questions failed as on a calm day, with {kinds}.")
        )
    waiting = max(sum(a.at_s <= b.at_s < a.at_s + a.took_s for a in asked.seen) for b in asked.seen)
    if max((each.at_once for each in asked.calls), default=0) <= 1 < waiting:
        told = f"up to {waiting} questions waited, and never more than one request was under way"
        found.append(((math.inf, 0, 0), f"Concurrency: {told}."))
    return found
