"""The same batch on the worker processes of dask.distributed, on this machine or on several.

Main path: with local_cluster(workers=2) as client: BatchProcessor(program, client=client).run(items)
The driver keeps the journal, the order and the number of items under way; workers only run items. A killed
worker's items are run again on another one: dask does that, and it is the one case in which an item can be
started twice within a run, since nobody can know how far the killed one had come.

Programs travel as dump_state JSON where their class can be imported and made without arguments, models by
name. What cannot (functions of a notebook, custom engines) dask pickles, as it does with all data between its
own processes; nothing is stored so. Whoever reaches its scheduler can run code, so it listens on 127.0.0.1
here, and a scheduler elsewhere is refused unless it uses TLS.
Source: distributed.Client.submit, distributed.LocalCluster (distributed 2026.8).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import dspy

from course_lib.caching.batch import worker
from course_lib.caching.batch.books import Outcome
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.items import Failure
from course_lib.caching.batch.plain import Codec
from course_lib.lm import process

_LOCAL_SCHEMES = ("inproc", "tls", "ucxs", "wss", "unix")


@contextlib.contextmanager
def local_cluster(*, workers: int = 2, threads: int = 16) -> Iterator[Any]:
    """Give a distributed.Client with worker processes of this machine, on 127.0.0.1; all end with the block.

    Args:
        workers: processes.
        threads: items that each runs at a time; async programs share one thread, others use that many.
    """
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


class DaskRunner:
    """Runs items on a client's workers."""

    def __init__(
        self,
        program: Any,
        client: Any,
        *,
        concurrency: int,
        deadline_s: float | None,
        types: tuple[type, ...],
    ) -> None:
        _check_address(client.scheduler.address)
        self._client = client
        self._codec = Codec.of(program, types)
        self._recipe, self._carried = _packed(program, types, concurrency, deadline_s)
        self._batch, self._sent = uuid.uuid4().hex, 0

    async def run(self, item: Any) -> Outcome:
        """Send one item to a worker, and wait for its outcome."""
        self._sent += 1
        sent = self._client.submit(
            worker.run_item,
            self._recipe,
            self._carried,
            item,
            key=f"course-batch-{self._batch}-{self._sent}",
            pure=False,  # else equal inputs would count as one
        )
        told: Future[str] = Future()
        sent.add_done_callback(lambda done: _tell(done, told))
        try:
            text = await asyncio.wrap_future(told)
            return self._outcome(json.loads(text))
        except asyncio.CancelledError:
            sent.cancel()
            raise
        except Exception as error:  # border: the cluster's own failure, such as KilledWorker, is this item's
            return Outcome(None, Failure.of(error), [])
        finally:
            sent.release()

    async def close(self) -> None:
        """Nothing is held: the client is the caller's."""

    def _outcome(self, told: dict[str, Any]) -> Outcome:
        entries = [(model, entry) for model, entry in told["entries"]]
        if "error" in told:
            return Outcome(None, Failure(*told["error"]), entries)
        return Outcome(self._codec.load(told["result"]), None, entries)


def _tell(done: Any, told: Future[str]) -> None:
    """Bring a result from dask's thread to who waits for it."""
    if told.cancelled():
        return
    try:
        told.set_result(done.result())
    except BaseException as error:  # border: carried to the waiting task
        if not told.cancelled():
            told.set_exception(error)


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    with contextlib.suppress(ValueError):
        if parts.scheme in _LOCAL_SCHEMES or ipaddress.ip_address(parts.hostname or "").is_loopback:
            return
    raise InputError(
        f"the scheduler at {address} is open to the network without TLS, and so anyone can run code there. "
        "Start it with a distributed.Security, or on 127.0.0.1"
    )


def _packed(
    program: Any, types: tuple[type, ...], concurrency: int, deadline_s: float | None
) -> tuple[str, dict[str, Any]]:
    """Return what a worker builds the program from: JSON, and beside it what only pickles carry."""
    recipe: dict[str, Any] = {"concurrency": concurrency, "deadline_s": deadline_s, "program": _told(program)}
    carried: dict[str, Any] = {"types": types} if types else {}
    if recipe["program"] is None:
        carried["program"] = program
    model = dspy.settings.lm
    recipe["lm"] = _told_lm(model)
    if recipe["lm"] is None and model is not None:
        carried["lm"] = model
    if dspy.settings.adapter is not None:
        carried["adapter"] = dspy.settings.adapter
    if carried:
        recipe["id"] = uuid.uuid4().hex  # JSON alone would not tell it from another
    return json.dumps(recipe, sort_keys=True), carried


def _told(program: Any) -> dict[str, Any] | None:
    kind = type(program)
    if (
        not isinstance(program, dspy.Module)
        or kind.__module__ == "__main__"
        or "<locals>" in kind.__qualname__
    ):
        return None
    state = program.dump_state()
    try:
        built = kind()
        built.load_state(state)
        is_same = built.dump_state() == state and json.loads(json.dumps(state)) == state
    except Exception:  # border: the class needs arguments, or its state is not JSON; dask carries it then
        return None
    return {"module": kind.__module__, "name": kind.__qualname__, "state": state} if is_same else None


def _told_lm(model: Any) -> dict[str, Any] | None:
    if not isinstance(model, dspy.LM):
        return None
    name = str(model.model)
    if name.startswith("course/"):
        return {
            "course": name.removeprefix("course/"),
            "url": process.url(),
            "key": process.key(),
            "pid": os.getpid(),
            "cache": model.cache,
            "retries": model.num_retries,
            "kwargs": {name: value for name, value in model.kwargs.items() if value is not None},
        }
    try:
        state = model.dump_state()
        json.dumps(state)
    except Exception:  # border: an engine of the caller's own, which need not know how to be saved
        return None
    return {"state": state} if type(model) is dspy.LM and isinstance(state.get("engine", ""), str) else None
