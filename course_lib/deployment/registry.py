"""The registry: which version of a program is live, which is tried, where each came from, and what it scored.

Main path: registry.register("answer", program, "2", parent="1") -> a candidate; start_canary(), promote(),
retire() and rollback() move it on. load() refuses a file that is not what was registered.

It is one JSON file, registry.json, beside the programs' folders; the programs themselves are the files of
save_program(). Each change is made under a lock of the folder and written whole, so processes may share it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import dspy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from course_lib.deployment.answering import SERVED, load_program, save_program
from course_lib.deployment.config import Version
from course_lib.errors import CourseError
from course_lib.files import lock_folder, write_whole

Stage = Literal["candidate", "canary", "live", "retired"]


class RegistryError(CourseError):
    """There is no such version, it cannot be moved so, or a file is not what was registered."""


class Registered(BaseModel):
    """A version of a program, as the registry knows it."""

    model_config = ConfigDict(extra="forbid")
    version: Version
    stage: Stage
    digest: str
    """SHA-256 of its file."""
    parent: str | None = None
    """The version from which it was made."""
    scores: list[float] = []
    """What it scored on the evaluation set, example by example, 0 to 1."""
    changed: datetime
    """When it came to this stage."""
    reason: str = ""
    """Why it came to this stage."""
    replaced: str | None = None
    """The version that was live before it."""


class Note(BaseModel):
    """What was decided about a version that did not change its stage, and why."""

    model_config = ConfigDict(extra="forbid")
    version: str
    kind: str
    reason: str
    when: datetime


class _Program(BaseModel):
    model_config = ConfigDict(extra="forbid")
    versions: dict[str, Registered] = {}
    notes: list[Note] = []
    rollout: dict[str, Any] = {}
    """What a rollout that is under way has seen."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    programs: dict[str, _Program] = Field(default_factory=dict)


class Registry:
    """The versions in a folder of programs (`programs_folder`); any number of processes may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "registry.json"

    def register(
        self,
        program: str,
        module: dspy.Module,
        version: str,
        *,
        parent: str | None = None,
        scores: Sequence[float] = (),
    ) -> Registered:
        """Write a program as a new version, a candidate; a file that has exactly this program is taken over.

        Raises:
            RegistryError: the service has no such program, or no such parent.
            ProgramError: the version is there already, and is another program.
        """
        if program not in SERVED:
            raise RegistryError(f"the service has no program {program!r}; it has {', '.join(SERVED)}")
        entry = Registered(
            version=version,
            stage="candidate",
            digest="",
            parent=parent,
            scores=list(scores),
            changed=datetime.now(UTC),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._edited() as programs:
            versions = programs.setdefault(program, _Program()).versions
            if parent is not None:
                self._entry(versions, program, parent)
            with tempfile.TemporaryDirectory() as scratch:
                text = save_program(module, Path(scratch), program, version).read_bytes()
            path = self._file(program, version)
            if version in versions or not path.exists() or path.read_bytes() != text:
                save_program(module, self.folder, program, version)  # refuses a version that is there
            entry.digest = hashlib.sha256(text).hexdigest()
            versions[version] = entry
        return entry

    def versions(self, program: str) -> list[Registered]:
        """Return all versions of a program, in the order in which they were registered."""
        return list(self._read().get(program, _Program()).versions.values())

    def version(self, program: str, version: str) -> Registered:
        """Return a version.

        Raises:
            RegistryError: there is none of this name.
        """
        return self._entry(self._read().get(program, _Program()).versions, program, version)

    def live(self, program: str) -> Registered | None:
        """Return the version that answers; None before the first was promoted."""
        return self._at(self._read().get(program, _Program()).versions, "live")

    def canary(self, program: str) -> Registered | None:
        """Return the version that has a share of the requests, if there is one."""
        return self._at(self._read().get(program, _Program()).versions, "canary")

    def load(self, program: str, version: str) -> dspy.Module:
        """Return the program of a version, without any model.

        Raises:
            RegistryError: there is no such version, or its file was changed.
            ProgramError: the file is no state of this program.
        """
        return load_program(program, self._checked(program, self.version(program, version)))

    def check(self) -> None:
        """Read every version's file that is not retired, as a process of the service does when it starts.

        Raises:
            RegistryError: one of them was changed, or is gone.
        """
        for program, known in self._read().items():
            for entry in known.versions.values():
                if entry.stage != "retired":
                    self._checked(program, entry)

    # -- from stage to stage -----------------------------------------------------------------------------

    def start_canary(self, program: str, version: str, reason: str = "") -> Registered:
        """Make a candidate the canary.

        Raises:
            RegistryError: another canary is under way, or the version is live already.
        """
        with self._edited() as programs:
            versions = programs.setdefault(program, _Program()).versions
            entry, other = self._entry(versions, program, version), self._at(versions, "canary")
            if entry.stage == "live" or (other and other is not entry):
                busy = "it is live" if entry.stage == "live" else f"{other and other.version!r} is the canary"
                raise RegistryError(f"{program} {version!r} cannot become the canary: {busy}")
            return self._move(entry, "canary", reason)

    def promote(self, program: str, version: str, reason: str = "") -> Registered:
        """Make a version live; the one that was live is retired."""
        with self._edited() as programs:
            known = programs.setdefault(program, _Program())
            entry, before = self._entry(known.versions, program, version), self._at(known.versions, "live")
            if before is entry:
                return entry
            if before:
                self._move(before, "retired", f"replaced by {version}")
                entry.replaced = before.version
            known.rollout = {}
            return self._move(entry, "live", reason)

    def retire(self, program: str, version: str, reason: str = "") -> Registered:
        """Take a candidate or a canary back.

        Raises:
            RegistryError: the version is live: promote another one, or roll back.
        """
        with self._edited() as programs:
            known = programs.setdefault(program, _Program())
            entry = self._entry(known.versions, program, version)
            if entry.stage == "live":
                raise RegistryError(f"{program} {version!r} is live; promote another version, or roll back")
            known.rollout = {} if entry.stage == "canary" else known.rollout
            return self._move(entry, "retired", reason)

    def rollback(self, program: str, reason: str = "") -> Registered:
        """Make the version live again that was live before.

        Raises:
            RegistryError: there was none.
        """
        with self._edited() as programs:
            known = programs.setdefault(program, _Program())
            now = self._at(known.versions, "live")
            if now is None or now.replaced is None:
                raise RegistryError(f"{program} has no version that was live before; promote one")
            before = self._entry(known.versions, program, now.replaced)
            self._move(now, "retired", reason)
            return self._move(before, "live", f"back from {now.version}")

    def rollout(self, program: str) -> dict[str, Any]:
        """Return what was kept of the rollout that is under way; empty when there is none."""
        return self._read().get(program, _Program()).rollout

    def keep_rollout(self, program: str, seen: dict[str, Any]) -> None:
        """Keep what a rollout has seen, so that another process can go on with it."""
        with self._edited() as programs:
            programs.setdefault(program, _Program()).rollout = seen

    def notes(self, program: str) -> list[Note]:
        """Return what was decided about a program's versions, oldest first."""
        return self._read().get(program, _Program()).notes

    def note(self, program: str, version: str, kind: str, reason: str) -> None:
        """Write down a decision."""
        note = Note(version=version, kind=kind, reason=reason, when=datetime.now(UTC))
        with self._edited() as programs:
            programs.setdefault(program, _Program()).notes.append(note)

    # -- the file ----------------------------------------------------------------------------------------

    def _file(self, program: str, version: str) -> Path:
        return self.folder / program / f"{version}.json"

    def _checked(self, program: str, entry: Registered) -> Path:
        path = self._file(program, entry.version)
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.digest:
            raise RegistryError(
                f"{path} is not the file that was registered (SHA-256 {entry.digest[:12]}...); "
                "restore it, or register what it holds now as a new version"
            )
        return path

    def _read(self) -> dict[str, _Program]:
        try:
            return _File.model_validate_json(self.path.read_bytes()).programs
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise RegistryError(
                f"{self.path} is damaged ({error.errors()[0]['msg']}); nothing was changed. Restore it, or "
                "move it away and register the versions again: their files are all there"
            ) from None

    @contextmanager
    def _edited(self) -> Iterator[dict[str, _Program]]:
        """Read the file, and write it at the end of the block; nobody else does so meanwhile."""
        with lock_folder(self.folder):
            programs = self._read()
            yield programs
            write_whole(self.path, _File(programs=programs).model_dump_json(indent=2))

    @staticmethod
    def _entry(versions: dict[str, Registered], program: str, version: str) -> Registered:
        if version not in versions:
            known = ", ".join(versions) or "none"
            raise RegistryError(f"{program} has no version {version!r}; registered are: {known}")
        return versions[version]

    @staticmethod
    def _at(versions: dict[str, Registered], stage: Stage) -> Registered | None:
        return next((each for each in versions.values() if each.stage == stage), None)

    @staticmethod
    def _move(entry: Registered, stage: Stage, reason: str) -> Registered:
        entry.stage, entry.reason, entry.changed = stage, reason, datetime.now(UTC)
        return entry
