"""The process between ours and a Redis server: it ends the server when ours is gone, whatever the reason.

Main path: run as a script by redis_server.py; starts the server, waits for its own input to end, ends it.
It imports nothing but the standard library and starts in some 20 ms.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading

BUSY = 75
"""Exit code: another process keeps a server in this folder."""


def _die_with_keeper() -> None:
    """Have the system end this server when its keeper is killed (Linux; elsewhere it would stay)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_for_parent(server: subprocess.Popen[bytes], said: list[bytes]) -> None:
    """End the server when the parent says so or is gone; at once, for it has nothing to save."""
    said.append(os.read(0, 1))
    server.kill()


def main(lock_path: str, folder: str, command: list[str]) -> int:
    """Keep one server; returns its exit code when it has ended.

    Args:
        lock_path: a file that is locked while the server runs, so that no second one takes its socket.
        folder: deleted when the parent is gone without a word; empty for one that is to stay.
        command: the server and its arguments.
    """
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return BUSY
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(  # noqa: S603  (the command comes from redis_process.py)
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=_die_with_keeper
    )
    signal.signal(signal.SIGTERM, lambda *_: server.kill())
    print(server.pid, flush=True)
    said: list[bytes] = []
    threading.Thread(target=_wait_for_parent, args=(server, said), daemon=True).start()
    code = server.wait()
    if folder and said == [b""]:  # the parent is gone, and needs the folder no more
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
