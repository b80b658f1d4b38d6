"""The same batch on the worker processes of dask.distributed, on this machine or on several.

Main path: with local_cluster(workers=2) as client: BatchProcessor(program, client=client).run(items)
Workers only run items. A killed worker's items are run again on another one: dask does that, and it is the
one case in which an item is started twice within a run: nobody can know how far the killed one had come.
The program, its model and adapter, and the scope of the caller travel with the items, pickled as dask does
with all data. Whoever reaches its scheduler can run code, so one elsewhere is refused unless it uses TLS. A
worker process keeps no cache, which would know neither the tenants of this one's nor its invalidations.
Source: distributed.Client.get_executor, distributed.LocalCluster (distributed 2026.8).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import dspy

from course_lib import lm
from course_lib.caching.batch.inputs import Outcome, run_one
from course_lib.caching.batch.items import BatchError
from course_lib.caching.keys import current_scope, scope

pickle: Any = import_module("cloudpickle")  # it has no types; also carries what a notebook defines


@contextlib.contextmanager
def local_cluster(*, workers: int = 2, threads: int = 16) -> Iterator[Any]:
    """Give a Client with `workers` processes on 127.0.0.1, each for `threads` items, until the block ends."""
    import dask
    from distributed import Client, LocalCluster  # a second to import

    with (
        tempfile.TemporaryDirectory(prefix="course-dask-") as scratch,
        dask.config.set({"temporary-directory": scratch}),  # the scheduler's, which is in this process
        LocalCluster(
            local_directory=scratch,
            n_workers=workers,
            threads_per_worker=threads,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # with None, dask takes port 8787 and warns where it is taken
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def remote_call(program: Any, client: Any) -> Callable[[Any], Outcome]:
    """Return what runs an item on the client's workers; BatchError if the program cannot be pickled."""
    _check_address(client.scheduler.address)
    model, settings, endpoint = dspy.settings.lm, {"adapter": dspy.settings.adapter}, None
    if str(getattr(model, "model", "")).startswith("course/"):  # a worker connects to this endpoint itself
        options = {option: value for option, value in model.kwargs.items() if value is not None}
        options |= {"model": model.model, "cache": model.cache, "num_retries": model.num_retries}
        endpoint = {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}, options
    else:
        settings["lm"] = model
    try:
        cargo = (_process(), program, settings, endpoint, asdict(current_scope()))
        pickled = pickle.dumps(cargo)  # once, not for each item
    except Exception as error:  # border: the program's own classes
        raise BatchError(f"{program!r:.60} cannot be pickled for a worker: {error}") from error
    executor = client.get_executor(pure=False)  # else equal inputs would count as one
    return lambda inputs: Outcome(*executor.submit(_run_on_worker, pickled, inputs).result())


def _run_on_worker(pickled: bytes, inputs: Any) -> Outcome:
    program, settings, scope_of = _unpacked(pickled)
    with dspy.context(**settings), scope(**scope_of):
        result, error, entries = run_one(program, inputs)
    return Outcome(result, error and replace(error, exception=None), entries)  # which might not travel


@lru_cache(maxsize=4)
def _unpacked(pickled: bytes) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    sender, program, settings, endpoint, scope_of = pickle.loads(pickled)
    if sender != _process():
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
        os.environ.update(endpoint[0] if endpoint else {})
    return program, {"lm": lm.connect(**endpoint[1]), **settings} if endpoint else settings, scope_of


def _process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _check_address(address: str) -> None:
    if not re.match(r"(inproc|tls|ucxs|wss|unix):|\w+://(127(\.\d+){3}|\[::1\]):", address):
        raise BatchError(
            f"the scheduler at {address} is open to the network without TLS, and so anyone can run code "
            "there. Start it with a distributed.Security, or on 127.0.0.1"
        )
