from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from course_lib.lm.encoder import MiniLM, computed
from course_lib.lm.vectors import VectorFile

ASK = """
import sys
from pathlib import Path
from course_lib.lm.encoder import MiniLM, computed
from course_lib.lm.vectors import VectorFile

print(MiniLM(VectorFile(Path(sys.argv[1]), "weights"))([sys.argv[2]]).tobytes().hex(), computed())
"""


def vector(number: float) -> np.ndarray:
    return np.full(384, number, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not yet" / "vectors.sqlite3"


def test_what_is_put_is_got_to_the_last_bit_and_what_is_not_there_is_left_out(path):
    put = {"tent \ud800": vector(1 / 3), "": vector(-0.0)}
    VectorFile(path, "weights").put(put)

    got = VectorFile(path, "weights").get(["tent \ud800", "stove", ""])

    assert {text: each.tobytes() for text, each in got.items()} == {
        text: each.tobytes() for text, each in put.items()
    }
    assert VectorFile(path, "other weights").get(["tent \ud800"]) == {}


def test_only_its_owner_can_read_the_file_and_no_text_is_in_it(path):
    VectorFile(path, "weights").put({"my own words": vector(1)})

    assert path.stat().st_mode & 0o077 == path.parent.stat().st_mode & 0o077 == 0
    assert b"my own words" not in path.read_bytes()


def test_the_oldest_vectors_leave_a_full_file(path):
    file = VectorFile(path, "weights", most=3)

    for number in range(5):
        file.put({f"text {number}": vector(number)})

    assert sorted(file.get([f"text {number}" for number in range(5)])) == ["text 2", "text 3", "text 4"]


def test_threads_that_write_at_once_lose_nothing_and_more_texts_than_one_question_holds_are_found(path):
    texts = [f"text {number}" for number in range(600)]

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, 600, 50):
            some = {text: vector(start) for text in texts[start : start + 50]}
            pool.submit(VectorFile(path, "weights").put, some)

    assert len(VectorFile(path, "weights").get(texts)) == 600


def test_a_damaged_file_is_begun_anew(path):
    file = VectorFile(path, "weights")
    file.put({"tent": vector(1)})
    path.write_bytes(b"no database" * 1000)

    assert file.get(["tent"]) == {}
    file.put({"tent": vector(2)})

    assert file.get(["tent"])["tent"][0] == 2


def test_without_a_place_to_write_nothing_is_kept_and_nothing_raised(tmp_path):
    (tmp_path / "file").touch()
    file = VectorFile(tmp_path / "file" / "vectors.sqlite3", "weights")

    file.put({"tent": vector(1)})

    assert file.get(["tent"]) == {}


# About a second: another process is begun.
def test_another_process_computes_no_vector_that_this_one_has_kept(path):
    text = "Do you ship to Norway?"
    before = computed()
    ours = MiniLM(VectorFile(path, "weights"))([text]).tobytes().hex()
    assert computed() == before + 1

    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(path), text], capture_output=True, text=True, check=True
    )

    assert asked.stdout.split() == [ours, "0"]
