"""Consumers killed at random while events arrive: each handled at least once, done exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

CONSUMERS = 3

NURSERY = """
# Forks consumers from a process that has imported everything, and kills one after the other.
import asyncio, json, os, random, signal, sys
from contextlib import closing, suppress
from pathlib import Path
from course_lib.concurrency.events import Consumer, Effects, Event, EventStream

url, folder, count, consumers, pause_s = sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:])
count, consumers = int(count), int(consumers)
handled = os.open(folder / "handled", os.O_CREAT | os.O_APPEND | os.O_RDWR)
TABLE = "create table if not exists sums (event text, n integer)"

async def consume():
    effects = Effects(folder / "effects")
    await effects.transact(lambda db: db.execute(TABLE))

    async def handle(event):
        os.write(handled, b"%s\\n" % event.id.encode())
        async def work():
            await asyncio.sleep(0.002)
            return event.data["n"]
        def write(db, n):
            db.execute("insert into sums values (?, ?)", (event.id, n))
        await effects.once(event, work, write)

    consumer = Consumer(EventStream(url, "numbers"), handle, idle_s=0.3, most_deliveries=100)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
    await consumer.run()

def begin():
    pid = os.fork()
    if pid == 0:
        os._exit(asyncio.run(consume()) or 0)
    return pid

def end(pid, number):
    os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

pids = []

async def main():
    stream, moments, kills, begun = EventStream(url, "numbers", bound=200), random.Random(7), 0, 0
    pids.extend(begin() for _ in range(consumers))
    events = [Event("number", {"n": n}, id=str(n)) for n in range(count)]
    producing = asyncio.create_task(stream.publish(*events, *events[::10]))  # every tenth is published twice
    while not producing.done() or await stream.backlog():
        await asyncio.sleep(pause_s * moments.uniform(0.5, 1.5))
        if os.fstat(handled).st_size < begun + 100:  # on a busy machine, killed before they do anything
            continue
        begun = os.fstat(handled).st_size
        victim = moments.randrange(consumers)
        kills += end(pids[victim], signal.SIGKILL) == -signal.SIGKILL
        pids[victim] = begin()
    await producing
    await asyncio.sleep(0.2)
    codes = [end(pid, signal.SIGTERM) for pid in pids]
    groups = await stream._redis.xinfo_groups("numbers")
    letters = await stream.dead_letters()
    await stream.aclose()
    with closing(Effects(folder / "effects")) as effects:
        sums = await effects.transact(lambda db: db.execute("select event, n from sums").fetchall())
    print(json.dumps({
        "kills": kills, "codes": codes, "letters": len(letters), "sums": sums,
        "left": [group["pending"] for group in groups],
    }))

try:
    asyncio.run(main())
except BaseException:  # else those that are left would keep the pipe of the error open
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise
"""


# About five seconds: a process of its own, forked for each consumer and each kill.
@pytest.mark.parametrize(
    ("count", "pause_s"), [(1000, 0.25), pytest.param(10_000, 0.4, marks=pytest.mark.soak)], ids=str
)
def test_consumers_killed_at_random_leave_each_event_done_exactly_once(redis_url, tmp_path, count, pause_s):
    command = [sys.executable, "-c", NURSERY, redis_url, tmp_path, count, CONSUMERS, pause_s]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, timeout=300)
    seen = json.loads(ran.stdout)
    handled = Counter((tmp_path / "handled").read_text().split())

    assert ran.stderr == ""
    assert seen["kills"] >= 3
    assert sorted(map(int, handled)) == list(range(count)), "each at least once"
    assert sorted(n for _, n in seen["sums"]) == list(range(count)), "each effect exactly once"
    assert max(handled.values()) > 1, "some more than once"
    assert (seen["left"], seen["letters"]) == ([0], 0), "nothing pending, nothing given up"
    assert seen["codes"] == [0] * CONSUMERS, "SIGTERM stops gracefully"
