"""Is this machine ready for the course? Each check says what it found and, if need be, the exact remedy.

Main path: doctor() runs every check in CHECKS, prints one line each, and writes a report without secrets.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.files import FileError, write_whole
from course_lib.paths import NOTEBOOKS, ROOT, work_dir

KERNEL = "advanced-dspy"
NEEDED_DISK_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    name: str
    """What was looked at, in two or three words."""
    found: str
    """What was there, without secrets."""
    remedy: str = ""
    """The next thing to type or do; empty when all is fine."""

    @property
    def is_fine(self) -> bool:
        """True when nothing needs a remedy."""
        return not self.remedy

    def __str__(self) -> str:
        remedy = f"\n     {'':<18} do: {self.remedy}" if self.remedy else ""
        return f"{'ok ' if self.is_fine else 'FIX'}  {self.name:<18} {self.found}{remedy}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order they were made."""

    findings: tuple[Finding, ...]

    @property
    def is_fine(self) -> bool:
        """True when nothing needs a remedy."""
        return all(finding.is_fine for finding in self.findings)

    def __str__(self) -> str:
        """One line a finding, the remedy below the ones that need it, then the verdict."""
        wrong = sum(not finding.is_fine for finding in self.findings)
        verdict = f"{wrong} {'thing needs' if wrong == 1 else 'things need'} a remedy, given above."
        return "\n".join([*map(str, self.findings), verdict if wrong else "Everything is ready."])


def doctor() -> Report:
    """Check machine and set-up, print what was found, and write `doctor.txt` into the learner's folder.

    Takes about two seconds, most of it a real call to the language model's endpoint.
    """
    report = Report(tuple(_guarded(check) for check in CHECKS))
    print(report)
    _write(report)
    return report


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # border: one broken check must not hide the others
        name = check.__name__.removeprefix("check_").replace("_", " ")
        found = without_secrets(f"the check itself failed: {type(error).__name__}: {error}")
        return Finding(name, found, "make setup; if it stays, report it with work/doctor.txt")


def _write(report: Report) -> None:
    head = f"{time.strftime('%Y-%m-%d %H:%M')} {platform.platform()} Python {platform.python_version()}\n"
    try:
        write_whole(work_dir() / "doctor.txt", without_secrets(head + str(report)) + "\n")
    except FileError as error:
        print(f"(no report written: {without_secrets(str(error))})")


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


def check_python() -> Finding:
    """Python 3.11 to 3.13, in the course's own environment."""
    is_fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    remedy = "" if is_fine else "install Python 3.12, then: make clean && make PYTHON=python3.12 setup"
    return Finding("Python", f"{platform.python_version()} in {sys.prefix}", remedy)


def check_packages() -> Finding:
    """The installed packages are the locked ones."""
    locked = locked_versions()
    installed = {name: _installed(name) for name in locked}
    wrong = [
        f"{name} {installed[name]} (locked: {locked[name]})"
        for name in locked
        if installed[name] != locked[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Finding("packages", ", ".join(wrong[:3]) + more, "make clean && make setup")
    return Finding("packages", f"{len(locked)} as locked, dspy {locked['dspy']} among them")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def locked_versions() -> dict[str, str]:
    """Read name -> version from requirements.lock, only the packages that this system needs.

    Raises:
        CourseError: the lock file is not where it belongs.
    """
    from packaging.requirements import Requirement

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


def check_kernel() -> Finding:
    """Jupyter knows the course's kernel, and it is this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    except NoSuchKernel:
        return Finding("kernel", f"no kernel named {KERNEL!r}", "make setup")
    if Path(command).parent != Path(sys.executable).parent:
        return Finding("kernel", f"{KERNEL!r} runs {command}, not {sys.executable}", "make setup")
    return Finding("kernel", KERNEL)


def check_import_speed() -> Finding:
    """A package that makes every `import dspy` one to two seconds slower is absent."""
    if _installed("rfc3987-syntax") == "missing":
        return Finding("import speed", "no slow optional import in the way")
    remedy = "python -m pip uninstall rfc3987-syntax (the course does not need it)"
    return Finding("import speed", "rfc3987-syntax is installed and slows `import dspy`", remedy)


def check_work_folder() -> Finding:
    """The learner's folder can be written and has room."""
    folder = work_dir()
    try:
        write_whole(folder / ".doctor", "ok")
        (folder / ".doctor").unlink()
    except (FileError, OSError) as error:
        remedy = "make it writable (chmod u+w), or set COURSE_WORK to a folder that is"
        return Finding("work folder", f"{folder}: {error.__cause__ or error}", remedy)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < NEEDED_DISK_BYTES:
        remedy = "free some space, or set COURSE_WORK to a folder on another disk"
        return Finding("work folder", f"{folder}: {free_bytes / 1e6:.0f} MB free, 500 needed", remedy)
    return Finding("work folder", f"{folder}, {free_bytes / 1e9:.0f} GB free")


def check_notebooks() -> Finding:
    """The learner has a copy of every notebook."""
    shipped = {path.name for path in NOTEBOOKS.glob("*.ipynb")}
    missing = sorted(name for name in shipped if not (work_dir() / name).exists())
    if missing:
        return Finding("your copies", f"missing: {', '.join(missing)}", "make setup (it never overwrites)")
    return Finding("your copies", f"{len(shipped)} in the work folder")


def check_progress() -> Finding:
    """The progress file can be read, and is whole."""
    path = work_dir() / "progress.sqlite3"
    if not path.exists():
        return Finding("progress", "none yet")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            verdict = connection.execute("pragma quick_check").fetchone()[0]
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        return Finding("progress", f"{path}: {verdict}", f"mv {path} {path}.broken (checks begin a new one)")
    return Finding("progress", "readable and whole")


def check_loopback() -> Finding:
    """Servers can listen on loopback, and no proxy stands in between."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        remedy = "allow listening on 127.0.0.1 (firewall, sandbox or container settings)"
        return Finding("loopback", f"cannot listen on 127.0.0.1: {error.strerror}", remedy)
    if urllib.request.getproxies() and not urllib.request.proxy_bypass("127.0.0.1"):
        remedy = "export NO_PROXY=127.0.0.1,localhost and restart JupyterLab from that shell"
        return Finding("loopback", "a proxy would be asked for 127.0.0.1", remedy)
    return Finding("loopback", "free, no proxy in between")


def check_language_model() -> Finding:
    """The endpoint starts and answers a real request."""
    import dspy

    from course_lib import lm

    started = time.perf_counter()
    try:
        model = lm.connect(cache=False, num_retries=0)
        model("Say hello.")
    except (CourseError, dspy.DSPyError) as error:
        found = without_secrets(f"COURSE_LM={os.environ.get('COURSE_LM') or 'sim'}: {error}")
        remedy = "unset COURSE_LM (the simulator needs no key), or mend it as the message says"
        return Finding("language model", found, remedy)
    return Finding("language model", f"{model.model} answered in {time.perf_counter() - started:.1f} s")


def check_redis_server() -> Finding:
    """A Redis-protocol server starts and answers, or the one that REDIS_URL names does."""
    import redis

    from course_lib.services import running_redis

    is_own = not os.environ.get("REDIS_URL")
    try:
        with running_redis() as server:
            found = redis.Redis.from_url(server.url, socket_timeout=2).info("server")
    except (CourseError, redis.RedisError) as error:
        remedy = "make clean && make setup" if is_own else "unset REDIS_URL, or mend it"
        return Finding("Redis server", without_secrets(str(error)), remedy)
    where = "the course's own" if is_own else "REDIS_URL"
    name = f"Valkey {found['valkey_version']}" if "valkey_version" in found else found["redis_version"]
    return Finding("Redis server", f"{name}, {where}")


def check_embeddings() -> Finding:
    """The weights of the sentence embeddings are the published ones."""
    from course_lib.caching.semantic import weights

    try:
        size_mb = weights.find()[0].stat().st_size / 1e6
    except CourseError as error:
        return Finding("embeddings", without_secrets(str(error)), "course setup, or: make setup")
    return Finding("embeddings", f"MiniLM, {size_mb:.0f} MB, hash as published")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_packages,
    check_kernel,
    check_import_speed,
    check_work_folder,
    check_notebooks,
    check_progress,
    check_loopback,
    check_language_model,
    check_redis_server,
    check_embeddings,
)
