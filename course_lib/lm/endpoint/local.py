"""A small real model on this machine, through llama.cpp's own server (the optional package xllamacpp).

Main path: url(environ) starts it once, as a process of its own on loopback that ends with this one.
Source: xllamacpp 2026.10 (CommonParams, Server).
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from course_lib.lm.endpoint.wire import ApiError, unknown_model

_SERVE = """
import os, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port = sys.argv[1], 0                     # on 127.0.0.1, its default, at a free port
p.n_ctx, p.n_parallel, p.use_jinja = 8192, 1, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1   # on a shared machine two are slower than one
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
while os.read(0, 4096): pass                              # the endpoint ended, however it did
os._exit(0)
"""

_lock = threading.Lock()
_running: subprocess.Popen[str] | None = None
_address = ""


def check(environ: Mapping[str, str]) -> Path:
    """Return the model file.

    Raises:
        ApiError: 404 when llama.cpp or the file is missing, with the remedy.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise _missing("the package xllamacpp is not installed; install it with: pip install xllamacpp")
    named = environ.get("COURSE_LM_MODEL_FILE", "")
    if not named:
        raise _missing("COURSE_LM_MODEL_FILE is not set; let it name a GGUF file")
    file = Path(named).expanduser()
    if not file.is_file():
        raise _missing(f"COURSE_LM_MODEL_FILE names {named!r}, which is not a file; let it name a GGUF file")
    return file


def url(environ: Mapping[str, str]) -> str:
    """Return the address of the local model's server; starts it if it is not running, which takes seconds.

    Raises:
        ApiError: 404 as in `check`, 503 when llama.cpp could not load the file.
    """
    global _running, _address
    file = check(environ)
    with _lock, tempfile.TemporaryFile("w+") as log:
        if _running is None or _running.poll() is not None:
            command = [sys.executable, "-P", "-c", _SERVE, str(file)]
            pipe = subprocess.PIPE
            _running = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)  # noqa: S603
            assert _running.stdout is not None
            _address = _running.stdout.readline().strip()
            if not _address:
                log.seek(0)
                message = " / ".join(log.read().strip().splitlines()[-3:])
                raise ApiError(
                    503, "local_model_failed", f"llama.cpp could not load {str(file)!r}: {message}"
                )
    return f"{_address if '://' in _address else f'http://{_address}'}/v1"


def _missing(why: str) -> ApiError:
    return unknown_model(f"the local model is not available: {why}, or use COURSE_LM=sim")
