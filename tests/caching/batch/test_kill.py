"""Killed at a random moment and resumed: each item once in the output, what was written paid once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

ITEMS, CONCURRENCY = 300, 8

NURSERY = """
# Forks the batch from a process that has imported everything, so that twenty of them are quick.
import json, os, random, signal, sqlite3, sys, time
from pathlib import Path
from course_lib.caching import BatchProcessor

folder, kills, count, concurrency, way = Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5]
paid = os.open(folder / "paid", os.O_CREAT | os.O_APPEND | os.O_RDWR)

def pays(number):
    os.write(paid, b"%d\\n" % number)
    time.sleep(0.004)
    return {"answer": number}

async def pays_later(number):
    import asyncio
    os.write(paid, b"%d\\n" % number)
    await asyncio.sleep(0.004)
    return {"answer": number}

def batch():
    options = {"journal": folder / "journal", "output": folder / "out.jsonl", "concurrency": concurrency}
    program = pays if way == "threads" else pays_later
    run = BatchProcessor(program, version="1", **options).run(iter(range(count)))
    for item in run:
        pass
    return run

def written():
    if not (folder / "journal").exists():
        return []
    connection = sqlite3.connect(folder / "journal")
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchone():
            return []
        return [int(key) for key, in connection.execute("SELECT key FROM items")]
    finally:
        connection.close()

moments, marks, died = random.Random(7), [], 0
for _ in range(kills):
    child = os.fork()
    if child == 0:
        batch()
        os._exit(0)
    time.sleep(moments.uniform(0.01, 0.06))
    os.kill(child, signal.SIGKILL)
    died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    marks.append([os.fstat(paid).st_size, written()])
run = batch()
print(json.dumps({"died": died, "marks": marks, "resumed": run.totals.resumed}))
"""


@pytest.mark.parametrize(("way", "kills"), [("threads", 20), ("tasks", 5)])
def test_killed_and_resumed(tmp_path, way, kills):
    numbers = [str(number) for number in (kills, ITEMS, CONCURRENCY)]
    command = [sys.executable, "-c", NURSERY, str(tmp_path), *numbers, way]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    log = (tmp_path / "paid").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    assert told["died"] >= kills // 2  # the last ones may find everything done
    assert [line["result"]["answer"] for line in lines] == list(range(ITEMS))
    for size, written in told["marks"]:
        assert not set(map(int, log[size:].split())) & set(written), "paid again after it was written"
    again = Counter(Counter(map(int, log.split())).values())
    assert sum(times * items for times, items in again.items()) <= ITEMS + kills * 2 * CONCURRENCY
