"""Recording what passes through the endpoint, and replaying it: the client's side, without DSPy.

Main path: with record(path): ...; with replay(load(path)): ... Both are about this client's key alone.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from course_lib.lm import client
from course_lib.lm.process import EndpointError
from course_lib.lm.recordings import MOST_BYTES, Recorded, RecordingError, Writer, load, redacted

_END = b"data: [DONE]"
_STOP_S = 30.0
_NOT_ASKED = (
    "no request of this key reached the endpoint; take a model from lm.connect(), or lm.url() and lm.key()"
)


@contextmanager
def record(path: str | Path, *, redact: Callable[[str], str] | None = None) -> Iterator[None]:
    """Write each request of this client that ends in the block, and its answer, to a file that begins anew.

    Args:
        path: the file; a process that is killed tears its last line at most.
        redact: is given each text of a request and an answer, also as `"name": "text"` where a field of a
            request has a name, and returns what to write; as it is by default.

    Raises:
        RecordingError: the file cannot be written, the endpoint ended meanwhile, or nothing was asked.
    """
    writer, name, problems = Writer(Path(path)), secrets.token_hex(8), list[str]()
    with client.lines(f"/course/recording?name={name}") as lines:
        writing = threading.Thread(target=_write, args=(lines, writer, redact, problems), daemon=True)
        writing.start()
        try:
            yield
        finally:
            with suppress(EndpointError):  # an endpoint that has ended ends the lines, too
                client.call("POST", f"/course/recording?name={name}")
            writing.join(_STOP_S)
            writer.close()
    if problems or writing.is_alive():
        why = problems[0] if problems else f"its last lines did not come within {_STOP_S:g} s"
        raise RecordingError(f"{path} is not complete: {why}")
    if not load(path):
        raise RecordingError(f"{path} is empty: {_NOT_ASKED}")


def _write(lines: Any, writer: Writer, redact: Callable[[str], str] | None, problems: list[str]) -> None:
    try:
        for line in lines:
            if line.startswith(_END):
                return
            if line.startswith(b"data: "):
                whole = line.removeprefix(b"data: ")
                writer.add_line(redacted(whole, redact) if redact else whole)
        problems.append("the endpoint ended, or more came than could be written")
    except Exception as error:  # border: a thread of ours; what stopped it is raised where the block ends
        problems.append(f"{type(error).__name__}: {error}")


@contextmanager
def replay(recorded: Sequence[Recorded], *, pace: float = 0.0, asks: bool = False) -> Iterator[None]:
    """Answer this client's requests from a recording, in the block; no model is asked.

    The n-th of equal requests gets the n-th recorded answer. A request that is not recorded is refused with
    status 400, and the block ends with an error even if the program goes on.

    Args:
        recorded: what was asked and answered.
        pace: 0 answers at once, 1 as late as it was recorded.
        asks: let the model answer what is not recorded, as after an edit of the recording.

    Raises:
        RecordingError: something was asked that is not recorded, nothing was asked at all, or the recording
            is larger than MOST_BYTES.
    """
    lines = [each.as_line().decode() for each in recorded]
    if (size_bytes := len(json.dumps(lines))) > MOST_BYTES:
        raise RecordingError(f"{size_bytes:,} bytes are recorded, over {MOST_BYTES:,}; replay a part of them")
    client.call("POST", "/course/replay", {"lines": lines, "pace": pace, "asks": asks})
    try:
        yield
    finally:
        seen = client.call("DELETE", "/course/replay")
    if misses := seen["misses"]:
        raise RecordingError(f"{len(misses)} requests were not recorded. The first: {misses[0]}")
    if not seen["asked"]:
        raise RecordingError(f"nothing was replayed: {_NOT_ASKED}")
