"""A batch's memory for 100,000 items to that for 1,000, and its throughput to dspy.Parallel's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.ratio import Ratio, paired, report

FEW, MANY = 1_000, 100_000
MEMORY_AT_MOST = 1.2
THROUGHPUT_AT_LEAST = 1.0
IN_FLIGHT = 32
ITEMS = 1_500
LATENCY_S = 0.02
TEXT = "[[ ## category ## ]]\nshipping\n\n[[ ## urgency ## ]]\nlow\n\n[[ ## completed ## ]]"

MEMORY = """
import resource, sys, tempfile
from pathlib import Path
from course_lib.caching import BatchProcessor

def cheap(text):
    return {"answer": text[:40], "labels": ["shipping", "low"]}

with tempfile.TemporaryDirectory() as folder:
    batch = BatchProcessor(cheap, journal=Path(folder) / "journal")
    items = ((f"ticket {n}: where is my parcel? ",) for n in range(int(sys.argv[1])))
    assert sum(item.ok for item in batch.run(items)) == int(sys.argv[1])
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss would hold what the parent had before exec
    print([int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")][0])
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
"""


def peak(items: int) -> float:
    """Return the largest resident size of a fresh process that runs a batch with a journal."""
    command = [sys.executable, "-c", MEMORY, str(items)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(out) / 2**10


def canned(latency_s: float) -> Any:
    """Return an LM whose engines, sync and async, answer after a wait."""
    import dspy
    from dspy.lm15 import Message, Request, Response, TextPart, Usage

    def answer(request: Request) -> Response:
        message = Message.assistant([TextPart(TEXT)])
        usage = Usage(input_tokens=3, output_tokens=2, total_tokens=5)
        return Response(id="1", model=request.model, message=message, finish_reason="stop", usage=usage)

    class Waits:
        def complete(self, request: Request) -> Response:
            time.sleep(latency_s)
            return answer(request)

    class WaitsInTask:
        async def complete(self, request: Request) -> Response:
            await asyncio.sleep(latency_s)
            return answer(request)

    return dspy.LM("bench/canned", engine=Waits(), async_engine=WaitsInTask(), cache=False)


def ours(program: Any, items: list[Any], **options: Any) -> float:
    from course_lib.caching import BatchProcessor

    begun = time.perf_counter()
    run = BatchProcessor(program, concurrency=IN_FLIGHT, progress=False, **options).run(items)
    assert all(item.ok for item in run)
    return len(items) / (time.perf_counter() - begun)


def theirs(program: Any, items: list[Any]) -> float:
    import dspy

    begun = time.perf_counter()
    parallel = dspy.Parallel(num_threads=IN_FLIGHT, disable_progress_bar=True)
    assert None not in parallel([(program, item) for item in items])
    return len(items) / (time.perf_counter() - begun)


def with_journal(program: Any, items: list[Any]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return ours(program, items, journal=Path(folder) / "journal")


def main() -> bool:
    import dspy

    from course_lib import desk

    many, few = peak(MANY), peak(FEW)
    memory = Ratio(many, few, many / few, many / few, many / few)
    results = [
        report(f"batch, memory for {MANY:,} items to {FEW:,}", memory, unit="MiB", at_most=MEMORY_AT_MOST)
    ]
    items, program = (desk.examples("train") * ITEMS)[:ITEMS], desk.Triage()
    with dspy.context(lm=canned(LATENCY_S)):
        for what, run, rounds, limit in (
            ("batch", ours, 4, THROUGHPUT_AT_LEAST),
            ("batch with journal", with_journal, 2, None),
        ):
            ratio = paired(lambda run=run: run(program, items), lambda: theirs(program, items), rounds=rounds)
            load = f"{ITEMS:,} items of {LATENCY_S * 1e3:g} ms, {IN_FLIGHT} in flight"
            name = f"{what} to dspy.Parallel, {load}"
            results.append(report(name, ratio, unit="items/s", at_least=limit))
    return all(results)
