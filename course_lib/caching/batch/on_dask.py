"""The same batch on the worker processes of dask.distributed, on this machine or on several.

Main path: with local_cluster(workers=2) as client: BatchProcessor(program, client=client).run(items)
The journal, the order and the number of items under way stay in this process; workers only run items. A
killed worker's items are run again on another one: dask does that, and it is the one case in which an item
can be started twice within a run, since nobody can know how far the killed one had come.

The program, its model and adapter, and the scope of the caller travel with the items, pickled as dask does
with all data. Whoever reaches its scheduler can run code, so it listens on 127.0.0.1 here, and a scheduler
elsewhere is refused unless it uses TLS. A worker process keeps no cache of its own, which would know neither
the tenants of this process's cache nor its invalidations: each item asks the model.
Source: distributed.Client.get_executor, distributed.LocalCluster (distributed 2026.8).
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import dspy

from course_lib import lm
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.execution import Outcome, run_one
from course_lib.caching.keys import current_scope, scope

pickle: Any = import_module("cloudpickle")  # it has no types; also carries what a notebook defines


@contextlib.contextmanager
def local_cluster(*, workers: int = 2, threads: int = 16) -> Iterator[Any]:
    """Give a distributed.Client with `workers` processes on 127.0.0.1, each for `threads` items at a time.

    All of them end with the block.
    """
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
    """Return what runs an item on the client's workers, and waits for its outcome.

    Raises:
        InputError: the scheduler is open to the network, or the program cannot be pickled.
    """
    _check_address(client.scheduler.address)
    cargo = (program, _portable(dspy.settings.lm), dspy.settings.adapter, asdict(current_scope()), _process())
    try:
        pickled = pickle.dumps(cargo)  # once, not for each item
    except Exception as error:  # border: the program's own classes
        raise InputError(
            f"{program!r:.60} cannot travel to a worker, it cannot be pickled: {error}"
        ) from error
    executor = client.get_executor(pure=False)  # else equal inputs would count as one
    return lambda inputs: Outcome(*executor.submit(_run_on_worker, pickled, inputs).result())


def _run_on_worker(pickled: bytes, inputs: Any) -> Outcome:
    program, settings, scope_of = _unpacked(pickled)
    with dspy.context(**settings), scope(**scope_of):
        result, error, entries = run_one(program, inputs)
    return Outcome(result, error and replace(error, exception=None), entries)  # which might not travel


@lru_cache(maxsize=4)
def _unpacked(pickled: bytes) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    program, model, adapter, scope_of, sender = pickle.loads(pickled)
    is_elsewhere = sender != _process()
    if is_elsewhere:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    if isinstance(model, dict):
        address, key, name, options = model["url"], model["key"], model["name"], model["options"]
        if is_elsewhere:
            os.environ["COURSE_LM_URL"], os.environ["COURSE_LM_KEY"] = address, key
        model = lm.connect(name, **options)
    return program, {"lm": model, "adapter": adapter}, scope_of


def _portable(model: Any) -> Any:
    """Return a model of the course as what a worker connects to: the endpoint of this process."""
    name = str(getattr(model, "model", ""))
    if not name.startswith("course/"):
        return model
    options = {option: value for option, value in model.kwargs.items() if value is not None}
    options |= {"cache": model.cache, "num_retries": model.num_retries}
    return {"name": name, "url": lm.url(), "key": lm.key(), "options": options}


def _process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    with contextlib.suppress(ValueError):
        is_local = parts.scheme in ("inproc", "tls", "ucxs", "wss", "unix")
        if is_local or ipaddress.ip_address(parts.hostname or "").is_loopback:
            return
    raise InputError(
        f"the scheduler at {address} is open to the network without TLS, and so anyone can run code there. "
        "Start it with a distributed.Security, or on 127.0.0.1"
    )
