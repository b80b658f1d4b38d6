"""Merging a new release into a learner's notebook: their work stays, the rest is brought up to date."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.copies import merging
from course_lib.copies.merging import keyed, merge
from course_lib.exercises.engine.notebookfile import source_of


def cell(cell_id, source, **metadata):
    empty = {"outputs": [], "execution_count": None}
    return {"id": cell_id, "cell_type": "code", "metadata": metadata, "source": source, **empty}


def notebook(*cells, **metadata):
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def simple(text):
    """Write "a1 b2" for two cells, a with source "1" and b with source "2"."""
    return notebook(*(cell(word[0], word[1:]) for word in text.split()))


CASES = {
    "untouched cells take the new text, touched ones keep the learner's": (
        "a1 b1 c1 | a1 bX c1 | a2 b2 c1", "a2 bX c1", {merging.TOOK: ["a"], merging.KEPT: ["b"]}),
    "a touched cell that the course left alone is not worth a word": (
        "a1 b1 | aX b1 | a1 b2", "aX b2", {merging.KEPT: []}),
    "an added cell comes at its place": (
        "a1 b1 | a1 b1 | n1 a1 m1 b1 o1", "n1 a1 m1 b1 o1", {merging.ADDED: ["n", "m", "o"]}),
    "a removed cell goes unless the learner wrote in it": (
        "a1 b1 c1 | a1 b1 cX | a1", "a1 cX", {merging.REMOVED: ["b"], merging.KEPT: ["c"]}),
    "the learner's own cells stay where they are": (
        "a1 b1 | x1 a1 y1 b1 z1 | a2 n1 b1", "x1 a2 y1 n1 b1 z1", {merging.ADDED: ["n"]}),
    "a cell that the learner deleted stays deleted": (
        "a1 b1 c1 | a1 c1 | a1 b2 c2", "a1 c2", {merging.TOOK: ["c"]}),
    "cells moved by the course move and take the learner's own along": (
        "a1 b1 c1 | a1 x1 b1 c1 | c1 b1 a1", "c1 b1 a1 x1", {}),
    "cells moved by the learner stay moved": ("a1 b1 c1 | c1 a1 b1 | a1 b2 n1 c1", "c1 a1 b2 n1", {}),
    "two cells of one id are both kept and told apart": ("a1 b1 | a1 aX b1 | a2 b1", "a2 a-2X b1", {}),
}  # fmt: skip


@pytest.mark.parametrize(("versions", "result", "lists"), CASES.values(), ids=CASES)
def test_merging(versions, result, lists):
    """Versions are base, mine and new."""
    base, mine, new = (simple(version) for version in versions.split(" | "))
    for one in mine["cells"]:
        one["outputs"] = [{"output_type": "stream"}]

    merged, changes = merge(base, mine, new)

    without = {one["id"] for one in merged["cells"] if not one["outputs"]}
    assert without == {*changes[merging.TOOK], *changes[merging.ADDED]}, "outputs of other cells stay"
    assert " ".join(one["id"] + source_of(one) for one in merged["cells"]) == result
    assert {kind: changes[kind] for kind in lists} == lists


def test_cells_without_ids_are_kept_and_a_source_may_be_stored_as_lines():
    own = ({"cell_type": "code", "source": text} for text in ("mine", "too"))

    merged, changes = merge(
        notebook(cell("a", "x\ny")), notebook(cell("a", ["x\n", "y"]), *own), simple("a2 b1")
    )

    assert " ".join(one["id"] + source_of(one) for one in merged["cells"]) == "a2 ownmine own-2too b1"
    assert changes[merging.TOOK] == ["a"]


def test_the_courses_metadata_comes_in_and_the_learners_stays():
    base = notebook(cell("a", "1", exercise="1.1", tags=["exercise"]), kernelspec="old")
    mine = notebook(
        cell("a", "X", exercise="1.1", tags=["exercise"], collapsed=True), kernelspec="old", own=1
    )
    new = notebook(cell("a", "2", exercise="1.2", tags=["exercise", "long"]), kernelspec="new")

    merged, changes = merge(base, mine, new)

    (one,) = merged["cells"]
    assert one["metadata"] == {"exercise": "1.2", "tags": ["exercise", "long"], "collapsed": True}
    assert merged["metadata"] == {"kernelspec": "new", "own": 1}
    assert changes[merging.KEPT] == ["a (exercise 1.2)"]


versions = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("12X")), max_size=7)
releases = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("12")), max_size=6, unique_by=lambda c: c[0]
)


@given(releases, versions, releases)
def test_whatever_the_versions_nothing_is_lost_and_a_second_merge_changes_nothing(base, mine, new):
    base, mine, new = (notebook(*(cell(*one) for one in version)) for version in (base, mine, new))
    before = copy.deepcopy((base, mine, new))

    merged, _ = merge(base, mine, new)

    assert (base, mine, new) == before
    written = [source_of(one) for one in mine["cells"]].count("X")
    assert [source_of(one) for one in merged["cells"]].count("X") == written
    shipped, shown = keyed(new["cells"]), keyed(merged["cells"])
    assert {key for key in shipped if key not in keyed(base["cells"])} <= set(shown)
    again, changes = merge(new, merged, new)
    assert again == merged
    assert not any(changes.values())
    interrupted, _ = merge(base, merged, new)  # stopped after the copy was written, before its base was
    assert interrupted == merged
