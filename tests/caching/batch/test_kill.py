"""Killed at a random moment and resumed: what was written is paid for once, and nothing is left out."""

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
from contextlib import closing
from pathlib import Path
from course_lib.caching import BatchProcessor

folder, kills, count, concurrency = Path(sys.argv[1]), *map(int, sys.argv[2:])
journal = folder / "journal"
paid = os.open(folder / "paid", os.O_CREAT | os.O_APPEND | os.O_RDWR)

def pays(number):
    os.write(paid, b"%d\\n" % number)
    time.sleep(0.004)
    return {"answer": number}

def batch():
    run = BatchProcessor(pays, journal=journal, concurrency=concurrency).run(iter(range(count)))
    return [item.result["answer"] for item in run], run.totals.resumed

def written():
    with closing(sqlite3.connect(journal)) as rows:
        if not rows.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchone():
            return []
        return [int(key) for key, in rows.execute("SELECT place FROM items")]

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
answers, resumed = batch()
print(json.dumps({"died": died, "marks": marks, "answers": answers, "resumed": resumed}))
"""


# About two seconds: a process of its own, which imports DSPy once and is forked for each kill.
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_and_resumed(tmp_path, kills):
    numbers = [str(number) for number in (kills, ITEMS, CONCURRENCY)]
    command = [sys.executable, "-c", NURSERY, str(tmp_path), *numbers]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    log = (tmp_path / "paid").read_bytes()

    assert seen["died"] >= kills // 2  # the last ones may find everything done
    assert seen["answers"] == list(range(ITEMS))
    for size, written in seen["marks"]:
        assert not set(map(int, log[size:].split())) & set(written), "paid again after it was written"
    assert set(seen["marks"][-1][1]) <= set(range(ITEMS))
    assert seen["resumed"] == len(seen["marks"][-1][1])
    assert Counter(log.split()).total() <= ITEMS + kills * CONCURRENCY
