"""A run at the model's boundary as one readable file: what was asked, and what came back, piece by piece.

Main path: Writer(path).add_line(line); load(path) reads them; missed(request, recorded) explains a
request that was not recorded. Keys and headers of a request are never part of it; its content is.
"""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import json
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.redaction.fields import OF_A_TOOL, TYPES

FORMAT, VERSION = "course-lm-recording", 1
CHAT = "/v1/chat/completions"
MOST_BYTES = 16_000_000
"""Size of all that an endpoint replays, and of all lines that clients who record have not read yet."""
_HEAD = {"format": FORMAT, "version": VERSION}
_MOST_DIFF_LINES, _MOST_CHARS, _CONTEXT_CHARS = 12, 200, 40
_OF_THE_PROGRAM = frozenset({"tools", "tool_choice", "functions", "function_call", "response_format"})
_OF_THE_USER = frozenset({"user", "safety_identifier"})
"""Fields of a request that hold schemas, and those that name who asks."""
_ANY = "x"
"""A text behind a name; where it is redacted, any is."""
_MOST = 1e12  # milliseconds, tokens, dollars
_MOST_COMPARED, _MOST_READ_CHARS, _MOST_LINES = 300, 20_000, 1_000

Body = dict[str, Any]
Piece = tuple[float, Body | str]
"""Milliseconds after the request came, and what was sent: JSON (in a stream, one event's), or other text."""


class RecordingError(CourseError):
    """A recording cannot be written, read or replayed."""


class TornLineWarning(UserWarning):
    """The last line of a recording is not whole, and was left out."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request and the answer to it."""

    request: Body
    """The body as it was sent, with its fields that were null or say nothing left out."""
    status: int = 200
    """0 when the connection ended before there was one."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the answer."""
    pieces: tuple[Piece, ...] = ()
    end: str = "whole"
    """Or `cut` (by the endpoint), or `left` (by the client)."""
    at: str = ""
    """When the request came: ISO, UTC."""
    took_ms: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    """What the ledger has of it: model, profile, fault, tokens, cost."""
    path: str = CHAT
    key: str = ""
    """Names what was asked. The file has it only where the request was redacted; else it is made anew."""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", key_of(self.path, self.request))

    @property
    def is_stream(self) -> bool:
        """True when the answer came as events."""
        return bool(self.request.get("stream"))

    @property
    def prompt(self) -> str:
        """The request to read: settings, then each message under its role."""
        return "\n".join(lines_of(self.request))

    @property
    def reply(self) -> str:
        """The text that the model wrote, its tool calls behind it; or the error's message."""
        if self.status != 200:
            bodies = [piece.get("error", piece) for _, piece in self.pieces if isinstance(piece, dict)]
            return f"status {self.status}: {bodies[0].get('message', bodies[0]) if bodies else self.end}"
        return "".join([self.text, *(f"\n{call['name']} {call['arguments']}" for call in self.tool_calls)])

    @property
    def text(self) -> str:
        """The text that the model wrote."""
        return "".join(part.get("content") or "" for part in self.parts())

    @property
    def tool_calls(self) -> list[dict[str, str]]:
        """The model's tool calls: `name` and `arguments`, as JSON text."""
        calls: dict[int, dict[str, str]] = {}
        for part in self.parts():
            for at, call in enumerate(part.get("tool_calls") or ()):
                one = calls.setdefault(call.get("index", at), {"name": "", "arguments": ""})
                for name in one:
                    one[name] += call["function"].get(name) or ""
        return list(calls.values())

    def parts(self) -> Iterator[Body]:
        """Yield the first choice's message, or the deltas of its stream."""
        for _, piece in self.pieces:
            choices = piece.get("choices", ()) if isinstance(piece, dict) else ()
            yield from (_part(each) for each in choices if each.get("index") == 0)

    def with_reply(self, text: str) -> Recorded:
        """Return a copy in which the model wrote this text instead.

        Raises:
            RecordingError: it wrote none.
        """
        if not self.text:
            raise RecordingError(f"this answer has no text that could be another: {self.reply or self.end!r}")
        pieces = _rewritten(self.pieces, lambda slot, old: text if slot == (0, "content") else old)
        return replace(self, pieces=pieces)

    def as_line(self) -> bytes:
        """Return it as a line of the file."""
        values = asdict(self)
        if self.key == key_of(self.path, self.request):
            del values["key"]
        try:
            return (json.dumps(values, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:  # an answer that was cut in the middle of a letter
            return (json.dumps(values) + "\n").encode()

    @classmethod
    def from_line(cls, line: bytes) -> Recorded:
        """Read a line.

        Raises:
            ValueError: it is none.
        """
        try:
            values = json.loads(line)
            for name, kind in _KINDS.items():
                if not isinstance(values.get(name), kind):
                    raise ValueError(f"its {name} is missing, or of another kind")
            one = cls(**{**values, "pieces": tuple((float(ms), piece) for ms, piece in values["pieces"])})
            _check(one)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        return one


_KINDS: dict[str, Any] = {"request": dict, "status": int, "headers": dict, "pieces": list, "end": str}
_KINDS |= {"at": str, "path": str, "took_ms": int | float, "figures": dict}


def _check(one: Recorded) -> None:
    """Read it as its readers will: the replay, and the ledger, of which one such line would be the last."""
    _ = one.prompt, one.reply, one.tool_calls
    is_status = one.status == 0 or 100 <= one.status < 600
    if not is_status or not all(isinstance(piece, dict | str) for _, piece in one.pieces):
        raise ValueError("its status or its pieces are of no answer")
    named = [one.figures.get(name) for name in ("model", "profile", "fault")]
    texts = [one.at, *one.headers, *one.headers.values(), *(each for each in named if each is not None)]
    texts += [json.dumps(piece, ensure_ascii=False) for _, piece in one.pieces if isinstance(piece, dict)]
    "".join(texts).encode()
    numbers = [value for name, value in one.figures.items() if name.endswith(("_tokens", "_usd"))]
    numbers += [one.took_ms, float(one.headers.get("retry-after-ms", 0)), *(ms for ms, _ in one.pieces)]
    if not all(0 <= number < _MOST for number in numbers):
        raise ValueError("one of its numbers is none, negative, or too large")


def canonical(body: Mapping[str, Any]) -> Body:
    """Return a request's body without what says nothing: nulls, `stream: false` and options of no stream."""
    silent = () if body.get("stream") else ("stream", "stream_options")
    return {name: value for name, value in body.items() if value is not None and name not in silent}


def key_of(path: str, request: Mapping[str, Any]) -> str:
    """Return the same short text for every request that asks for the same, in any order of its fields."""
    text = json.dumps([path, canonical(request)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def lines_of(request: Mapping[str, Any]) -> list[str]:
    """Return a request as lines to read and to compare."""
    settings = {name: value for name, value in canonical(request).items() if name != "messages"}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(settings.items())]
    for message in request.get("messages", ()):
        others = {**message}
        role, content = others.pop("role", None), others.pop("content", None)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        lines += [f"[{role}]", *text.split("\n")]
        lines += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in others.items()]
    return lines


def differing(before: Sequence[str], after: Sequence[str], most: int = _MOST_DIFF_LINES) -> list[str]:
    """Return the lines that differ: those of `before` behind a minus, those of `after` behind a plus.

    Of a long line the part around its first difference is shown. From the first line that differs on, a
    thousand are compared, for more would take minutes; the last line returned then says so.
    """
    found: list[str] = []
    begin_at = _common(before, after)
    left = max(len(before), len(after)) - begin_at - _MOST_LINES
    before, after = (lines[begin_at : begin_at + _MOST_LINES] for lines in (before, after))
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, before, after).get_opcodes():
        for pair in zip_longest(before[i:i_end], after[j:j_end]) if tag != "equal" else ():
            begin = max(0, _common(*(each or "" for each in pair)) - _CONTEXT_CHARS)
            signed = zip("-+", pair, strict=True)
            found += [f"{sign} {_clip(each, begin)}" for sign, each in signed if each is not None]
    shown = found if len(found) <= most else [*found[:most], f"({len(found) - most} more lines)"]
    return [*shown, f"({left:,} lines behind these were not compared)"] if left > 0 else shown


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return with how many lines, or characters of a line, both begin."""
    differ = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _clip(line: str, begin: int) -> str:
    end = begin + _MOST_CHARS
    return f"{'...' * (begin > 0)}{line[begin:end]}{'...' * (end < len(line))}"


def reason(error: OSError | ValueError) -> str:
    """Return why a file cannot be opened; a name with a NUL in it is a ValueError."""
    return getattr(error, "strerror", None) or str(error)


class Writer:
    """A recording that is being written, one whole line at a time."""

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        """Begin the file, which only its owner may read; `is_new` refuses one that is there.

        Raises:
            RecordingError: it cannot be written, or is there already.
        """
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if is_new else os.O_TRUNC)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(path, flags, 0o600), "wb")
        except FileExistsError:
            raise RecordingError(f"{path} is there already; delete it, or name another file") from None
        except (OSError, ValueError) as error:
            raise RecordingError(f"{path} cannot be written ({reason(error)}); name another file") from None
        self.add_line(json.dumps(_HEAD).encode() + b"\n")

    def add_line(self, line: bytes) -> None:
        """Write a line, so that a process that is killed tears the last one at most.

        Raises:
            RecordingError: say, the disk is full.
        """
        try:
            self._file.write(line)
            self._file.flush()
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"{self.path} cannot be written ({error}); the recording ends there"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def load(path: str | Path) -> list[Recorded]:
    """Read a recording, in the order in which the requests came; a torn last line is told and left out.

    Raises:
        RecordingError: it is no recording, one of another version, or line N is damaged.
    """
    path = Path(path)
    try:
        head, *lines = path.read_bytes().split(b"\n")
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read ({reason(error)}); is it the right file?") from None
    _check_head(path, head)
    recorded = []
    for number, line in enumerate(lines, 2):
        try:
            recorded += [Recorded.from_line(line)] if line or number <= len(lines) else []
        except ValueError as error:
            if number <= len(lines):
                raise RecordingError(f"{path}, line {number} is damaged ({error}); record it again") from None
            message = f"{path}: line {number} is torn, as when a process is killed, and is left out"
            warnings.warn(message, TornLineWarning, stacklevel=2)
    return sorted(recorded, key=lambda each: each.at)


def _check_head(path: Path, head: bytes) -> None:
    try:
        found = json.loads(head)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RecordingError(f"{path} is no recording: its first line is {head[:60]!r}")
    if found.get("version") != VERSION:
        version = found.get("version")
        raise RecordingError(f"{path} has version {version!r}, and this reads {VERSION}; record it again")


def missed(path: str, request: Mapping[str, Any], recorded: Sequence[Recorded]) -> str:
    """Return what to say of a request that has no recording left: the nearest one, and what differs."""
    key = key_of(path, request)
    if same := sum(each.key == key for each in recorded):
        return f"this request is recorded {same} times, and was asked once more"
    if not (alike := [each for each in recorded if each.path == path]):
        return f"nothing is recorded of {path}; {len(recorded)} requests are recorded in all"
    lines = lines_of(request)
    words = _words(lines)
    nearest = max(alike[:_MOST_COMPARED], key=lambda each: _likeness(_words(lines_of(each.request)), words))
    number = recorded.index(nearest) + 1
    shown = "\n".join(differing(lines_of(nearest.request), lines))
    return f"this request was not recorded; the nearest is number {number}, from which it differs by\n{shown}"


def _words(lines: Sequence[str]) -> set[str]:
    """Return by what texts are compared: their lines, and words for lines that differ a little."""
    return {*lines, *" ".join(lines)[:_MOST_READ_CHARS].split()}


def _likeness(first: set[str], second: set[str]) -> float:
    """Return from 0 to 1 how much of two texts is alike."""
    return len(first & second) / max(1, len(first | second))


def redacted(line: bytes, redact: Callable[[str], str]) -> bytes:
    """Return a line with all its content redacted; the key stays, so that it can be replayed.

    The text of a stream is redacted as a whole, and stands in the first of its pieces.
    """
    one, redact = Recorded.from_line(line), functools.cache(redact)

    def change(text: str) -> str:
        return str(_fields_redacted(text, redact))

    pieces = _events(one.pieces) if one.is_stream else one.pieces
    headers = one.headers if pieces == one.pieces else {**one.headers, "content-type": "text/event-stream"}
    pieces = _rewritten(pieces, lambda _, text: change(text))
    request = {name: _field_redacted(name, value, redact, change) for name, value in one.request.items()}
    return replace(one, request=request, pieces=each_text(pieces, change), headers=headers).as_line()


def _field_redacted(name: str, value: Any, redact: Callable[[str], str], change: Callable[[str], str]) -> Any:
    """Return the value of one of a request's own fields, redacted; of the program's own only their texts."""
    if name == "model":
        return value
    is_setting = isinstance(value, int | float) and _behind(name, _ANY, redact) == _ANY
    is_all_changed = name == "messages" and redact(name) != name  # and so are the names of its fields
    if is_setting or is_all_changed or name in _OF_THE_PROGRAM:
        return each_text(value, change)
    return _fields_redacted(value, redact, "user_name" if name in _OF_THE_USER else name)


def _fields_redacted(value: Any, redact: Callable[[str], str], name: str = "") -> Any:
    """Return JSON with its texts, numbers and names redacted, each also as it stands behind a name."""
    if value is None or isinstance(value, bool) or value in ("", [], {}):
        return value
    if isinstance(value, list):
        return [_fields_redacted(one, redact, name) for one in value]
    is_schema = isinstance(value, dict) and (str(value.get("type")) in TYPES or "$ref" in value)
    if not is_schema and (told := _behind(name, _ANY, redact)) != _ANY:
        return told
    if isinstance(value, dict):
        fields: Body = {}
        for each, one in value.items():
            shown = redact(each) if redact(each) not in fields else f"{redact(each)} {len(fields) + 1}"
            is_of_tool = each == "name" and not OF_A_TOOL.isdisjoint(value)
            fields[shown] = _fields_redacted(one, redact, "" if is_of_tool else each)
        return fields
    try:
        inner = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        inner = None
    if isinstance(inner, dict | list):  # as the arguments of tools are
        return json.dumps(_fields_redacted(inner, redact), ensure_ascii=False)
    shown = redact(str(value))
    shown = _behind(name, shown, redact) if len(shown) < _MOST_CHARS else shown
    return value if shown == str(value) else shown


def _behind(name: str, shown: str, redact: Callable[[str], str]) -> str:
    """Return a text as `redact` shows it behind the name of its field."""
    begin = f'"{name}": "'
    pair = f'{begin}{json.dumps(shown, ensure_ascii=False)[1:-1]}"'
    if not name or redact(name) != name or (behind := redact(pair)) == pair:
        return shown
    return behind.removeprefix(begin).removesuffix('"')


def _events(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Return the pieces with each event as JSON that was kept as text, for its spacing or for its cuts."""
    events: list[Piece] = []
    for is_text, some in groupby(pieces, lambda piece: isinstance(piece[1], str)):
        alike = list(some)
        text = "".join(str(piece) for _, piece in alike) if is_text else ""
        for event in re.findall(r"(?s).+?(?:\r?\n\r?\n|\Z)", text):
            try:
                value = json.loads(event.removeprefix("data:"))
            except ValueError:
                value = None
            events.append((alike[0][0], value if isinstance(value, dict) else event))
        events += [] if is_text else alike
    return tuple(events)


def _rewritten(
    pieces: tuple[Piece, ...], change: Callable[[tuple[object, ...], str], str]
) -> tuple[Piece, ...]:
    """Return the pieces with each text that is written over several of them changed, as a whole."""
    pieces = copy.deepcopy(pieces)
    slots: dict[tuple[object, ...], list[tuple[Any, Any]]] = defaultdict(list)
    for _, piece in pieces:
        for choice in piece.get("choices", ()) if isinstance(piece, dict) else ():
            if choice.get("logprobs"):  # the same text once more, in pieces that say nothing alone
                choice["logprobs"] = None
            for slot, holder, name in _texts(_part(choice), (_index(choice, None),)):
                slots[slot].append((holder, name))
    for slot, places in slots.items():
        text = change(slot, "".join(holder[name] for holder, name in places))
        for holder, name in places:
            holder[name], text = text, ""
    return pieces


def _part(choice: Body) -> Body:
    """Return what one choice says: its message, or in a stream its delta."""
    return choice.get("message") or choice.get("delta") or {}


def _index(part: Body, other: object) -> object:
    found = part.get("index", other)
    return found if isinstance(found, int | str) else other


def _texts(value: Any, slot: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], Any, Any]]:
    """Yield each text that may go on in another piece: its place in the answer, its holder, its name."""
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, dict | list):
            at = _index(each, name) if isinstance(each, dict) else name
            yield from _texts(each, (*slot, at))
        elif isinstance(each, str) and each and name not in ("role", "id", "type", "name"):
            yield (*slot, name), value, name


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain values with every text in them changed; the names of fields stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: each_text(one, change) for name, one in value.items()}
    kind = type(value)
    return kind(each_text(one, change) for one in value) if kind in (list, tuple) else value
