"""The registry: which version of a program is live, which is tried, where each came from, and what it scored.

Main path: registry.register("answer", program, "2", parent="1") -> a candidate; start_canary(), promote(),
retire() and rollback() move it on. load() refuses a file that is not what was registered.

It is one JSON file, registry.json, beside the programs' folders; the programs themselves are the files of
save_program(). Each change is made under a lock of the folder and written whole, so processes may share it.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import dspy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from course_lib.deployment.config import Version
from course_lib.deployment.programs import SERVED, ProgramError, load_program, save_program
from course_lib.errors import CourseError
from course_lib.files import lock_folder, write_whole

_log = logging.getLogger("course_lib.deployment")

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
    """The version that was live before it, to which it can be rolled back."""


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

    def at(self, stage: Stage) -> Registered | None:
        """Return the version that is at this stage, of which there is one at most."""
        return next((each for each in self.versions.values() if each.stage == stage), None)


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

        A retired version that is registered again with exactly its program is a candidate again.

        Raises:
            RegistryError: the service has no such program, or no such parent.
            ProgramError: the version is there already, and is another program or not retired; or the service
                could not load it.
        """
        if program not in SERVED:
            raise RegistryError(f"the service has no program {program!r}; it has {', '.join(SERVED)}")
        entry = Registered(version=version, stage="candidate", digest="", changed=datetime.now(UTC))
        entry.parent, entry.scores = parent, list(scores)
        with tempfile.TemporaryDirectory() as scratch:
            text = save_program(module, Path(scratch), program, version).read_bytes()
        path, entry.digest = self._file(program, version), hashlib.sha256(text).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._edited(program) as known:
            if parent is not None:
                self._entry(known, program, parent)
            before = known.versions.get(version)
            if before and (before.stage, before.digest) != ("retired", entry.digest):
                raise ProgramError(
                    f"{program} {version!r} is registered ({before.stage}); a version is written once, "
                    "so give the next one a new name"
                )
            if not path.exists() or path.read_bytes() != text:
                save_program(module, self.folder, program, version)  # refuses a version that is there
            known.versions[version] = entry
        return entry

    def versions(self, program: str) -> list[Registered]:
        """Return all versions of a program, in the order in which they were registered."""
        return list(self._known(program).versions.values())

    def version(self, program: str, version: str) -> Registered:
        """Return a version.

        Raises:
            RegistryError: there is none of this name.
        """
        return self._entry(self._known(program), program, version)

    def live(self, program: str) -> Registered | None:
        """Return the version that answers; None before the first was promoted."""
        return self._known(program).at("live")

    def canary(self, program: str) -> Registered | None:
        """Return the version that has a share of the requests, if there is one."""
        return self._known(program).at("canary")

    def load(self, program: str, version: str) -> dspy.Module:
        """Return the program of a version, without any model.

        Raises:
            RegistryError: there is no such version, or its file was changed.
            ProgramError: the file is no state of this program.
        """
        return load_program(program, self._checked(program, self.version(program, version)))

    def files(self, program: str, version: str) -> list[Path]:
        """Return the files that a process serves which is set to a version: this one, and all not retired.

        Another version's that is damaged is left out, with a warning. Where nothing of a program is
        registered, or registry.json is missing, these are all its files, and nothing is checked.

        Raises:
            RegistryError: the file of `version` was changed, or is gone.
        """
        known = self._known(program).versions
        if not known:
            return sorted((self.folder / program).glob("*.json"))
        path = self._file(program, version)
        found = [path] if version not in known and path.exists() else []
        for entry in known.values():
            try:
                if entry.version == version or entry.stage != "retired":
                    found.append(self._checked(program, entry))
            except RegistryError as error:
                if entry.version == version:
                    raise
                _log.warning("version %s is not served: %s", entry.version, error)
        return found

    # -- from stage to stage -----------------------------------------------------------------------------

    def start_canary(
        self, program: str, version: str, reason: str = "", *, rollout: dict[str, Any] | None = None
    ) -> Registered:
        """Make a candidate the canary, and keep what its rollout begins with; one that is it stays so.

        Raises:
            RegistryError: another canary is under way, it is live or retired, or its file was changed; or
                another program has a rollout, whose shares of the gateway this one's would overwrite.
        """
        with self._edited(program) as known:
            entry, other = self._entry(known, program, version), known.at("canary")
            busy = f"{other.version!r} is the canary" if other and other is not entry else ""
            going_on = [name for name, each in self._read().items() if each.rollout and name != program]
            if rollout and going_on:
                busy = f"{going_on[0]} has a rollout under way; end that first, or retire its canary"
            elif entry.stage == "live":
                busy = "it is live"
            elif entry.stage == "retired":
                busy = f"it is retired ({entry.reason}); register it again to try it again"
            if busy:
                raise RegistryError(f"{program} {version!r} cannot become the canary: {busy}")
            self._checked(program, entry)
            known.rollout = rollout or known.rollout
            return entry if entry is other else self._move(entry, "canary", reason)

    def promote(self, program: str, version: str, reason: str = "") -> Registered:
        """Make a version live; the one that was live is retired.

        Raises:
            RegistryError: there is no such version, or its file was changed or is gone.
        """
        with self._edited(program) as known:
            return self._promote(known, program, version, reason)

    def retire(self, program: str, version: str, reason: str = "") -> Registered:
        """Take a candidate or a canary back.

        Raises:
            RegistryError: the version is live: promote another one, or roll back.
        """
        with self._edited(program) as known:
            return self._retire(known, program, version, reason)

    def rollback(self, program: str, reason: str = "") -> Registered:
        """Make the version live again that was live before; never one that was itself rolled back.

        Raises:
            RegistryError: there was none, or its file was changed or is gone.
        """
        with self._edited(program) as known:
            now = known.at("live")
            if now is None or now.replaced is None:
                raise RegistryError(
                    f"{program} has no version that was live before and was not rolled back; promote one"
                )
            before = self._entry(known, program, now.replaced)
            self._checked(program, before)
            self._move(now, "retired", reason)
            for entry in known.versions.values():  # a second rollback must not lead to it
                entry.replaced = None if entry.replaced == now.version else entry.replaced
            known.rollout = {}
            return self._move(before, "live", f"back from {now.version}")

    def rollout(self, program: str) -> dict[str, Any]:
        """Return what was kept of the rollout that is under way; empty when there is none."""
        return self._known(program).rollout

    def go_on(
        self,
        program: str,
        seen: dict[str, Any],
        effect: Callable[[], object],
        left: Callable[[str], object] = lambda _: None,
    ) -> bool:
        """Do what a rollout has decided, and keep what it has seen; False, and nothing, if it is no more.

        It is one as long as its driver was the last to begin it and nobody else has moved its versions. All
        others wait meanwhile; if `effect` raises, nothing is kept. Of one that is no more, and that nobody
        drives on, `left` is told which of its two versions is live.
        """
        with self._edited(program) as known:
            live, canary = known.at("live"), known.at("canary")
            versions = (live and live.version, canary and canary.version, known.rollout.get("driver"))
            if versions != (seen["live"], seen["version"], seen["driver"]):
                is_driven = canary or known.rollout
                if live and not is_driven and live.version in (seen["live"], seen["version"]):
                    left(live.version)
                return False
            if seen["state"] == "promoted":
                self._checked(program, known.versions[seen["version"]])
            effect()
            known.rollout = seen
            if seen["state"] == "promoted":
                self._promote(known, program, seen["version"], seen["reason"])
            elif seen["state"] == "rolled back":
                self._retire(known, program, seen["version"], seen["reason"])
            return True

    def notes(self, program: str) -> list[Note]:
        """Return what was decided about a program's versions, oldest first."""
        return self._known(program).notes

    def note(self, program: str, version: str, kind: str, reason: str) -> None:
        """Write down a decision."""
        note = Note(version=version, kind=kind, reason=reason, when=datetime.now(UTC))
        with self._edited(program) as known:
            known.notes.append(note)

    def _promote(self, known: _Program, program: str, version: str, reason: str) -> Registered:
        entry, before = self._entry(known, program, version), known.at("live")
        self._checked(program, entry)
        if before is entry:
            return entry
        if before:
            self._move(before, "retired", f"replaced by {version}")
            entry.replaced = before.version
        known.rollout = {}
        return self._move(entry, "live", reason)

    def _retire(self, known: _Program, program: str, version: str, reason: str) -> Registered:
        entry = self._entry(known, program, version)
        if entry.stage == "live":
            raise RegistryError(f"{program} {version!r} is live; promote another version, or roll back")
        known.rollout = {} if entry.stage == "canary" else known.rollout
        return self._move(entry, "retired", reason)

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
        except OSError as error:
            raise RegistryError(f"{self.path} cannot be read: {error.strerror}; restore the file") from None
        except ValidationError as error:
            raise RegistryError(
                f"{self.path} is damaged ({error.errors()[0]['msg']}); nothing was changed. Restore it, or "
                "move it away and register the versions again: their files are all there"
            ) from None

    def _known(self, program: str) -> _Program:
        return self._read().get(program, _Program())

    @contextmanager
    def _edited(self, program: str) -> Iterator[_Program]:
        """Read the file, and write it at the end of the block; nobody else does so meanwhile."""
        with lock_folder(self.folder):
            programs = self._read()
            yield programs.setdefault(program, _Program())
            write_whole(self.path, _File(programs=programs).model_dump_json(indent=2))

    @staticmethod
    def _entry(known: _Program, program: str, version: str) -> Registered:
        if version not in known.versions:
            names = ", ".join(known.versions) or "none"
            raise RegistryError(f"{program} has no version {version!r}; registered are: {names}")
        return known.versions[version]

    @staticmethod
    def _move(entry: Registered, stage: Stage, reason: str) -> Registered:
        entry.stage, entry.reason, entry.changed = stage, reason, datetime.now(UTC)
        return entry
