"""A recording stays what it was until another one is whole, for clients without DSPy too."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.lm.recordings import RecordingError, load
from course_lib.lm.testing import ModelEndpoint, endpoint  # noqa: F401
from tests.lm.test_recordings import body, received


@pytest.fixture
def file(endpoint: ModelEndpoint, tmp_path: Path) -> Path:  # noqa: F811
    with endpoint.record(tmp_path / "run.jsonl"):
        received(endpoint.url, endpoint.key, [body("one"), body("two")])
    return tmp_path / "run.jsonl"


@pytest.mark.parametrize("fails", [True, False])
def test_a_block_that_asks_nothing_leaves_the_recording_that_was_there(
    endpoint: ModelEndpoint,  # noqa: F811
    file: Path,
    fails: bool,
) -> None:
    before = file.read_bytes()
    said = "by zero" if fails else "run.jsonl is empty"
    with pytest.raises((ZeroDivisionError, RecordingError), match=said), endpoint.record(file):
        _ = 1 / (not fails)

    assert file.read_bytes() == before
    assert [*file.parent.iterdir()] == [file]


def test_two_blocks_cannot_record_to_one_file(endpoint: ModelEndpoint, file: Path) -> None:  # noqa: F811
    with endpoint.record(file):
        received(endpoint.url, endpoint.key, [body("three")])
        with pytest.raises(RecordingError, match="another block or process"), endpoint.record(file):
            received(endpoint.url, endpoint.key, [body("never asked")])

    (only,) = load(file)
    assert only.request["messages"][0]["content"] == "three"
    assert [*file.parent.iterdir()] == [file]
