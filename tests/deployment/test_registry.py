"""The registry keeps every version and its stage, whoever writes at once, and refuses what was changed."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import pytest

from course_lib import desk
from course_lib.deployment import (
    Answering,
    DeploymentConfig,
    ProgramError,
    Registry,
    RegistryError,
    save_program,
)
from course_lib.deployment.replica import run


def triage(words: str = ""):
    program = desk.Triage()
    if words:
        program.sort.signature = program.sort.signature.with_instructions(words)
    return program


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "programs")
    made.register("triage", triage(), "1")
    made.promote("triage", "1")
    return made


def stages(registry: Registry) -> dict[str, str]:
    return {each.version: each.stage for each in registry.versions("triage")}


def test_a_version_goes_from_candidate_to_canary_to_live_and_back(registry):
    registry.register("triage", triage("Sort it."), "2", parent="1", scores=[1, 0.5])
    seen = [stages(registry)]
    registry.start_canary("triage", "2")
    seen.append(stages(registry))
    registry.promote("triage", "2", "better")
    seen.append(stages(registry))
    registry.rollback("triage", "customers complain")
    seen.append(stages(registry))

    assert seen == [
        {"1": "live", "2": "candidate"},
        {"1": "live", "2": "canary"},
        {"1": "retired", "2": "live"},
        {"1": "live", "2": "retired"},
    ]
    two = registry.version("triage", "2")
    assert (two.parent, two.scores, two.reason) == ("1", [1, 0.5], "customers complain")
    assert registry.load("triage", "2").sort.signature.instructions == "Sort it."


def test_no_rollback_leads_to_a_version_that_was_rolled_back(registry):
    registry.register("triage", triage("Sort it."), "2", parent="1")
    for version in ("2", "1", "2"):
        registry.promote("triage", version)

    assert registry.rollback("triage", "customers complain").version == "1"
    with pytest.raises(RegistryError, match="promote one"):
        registry.rollback("triage")
    assert stages(registry) == {"1": "live", "2": "retired"}


def test_a_version_is_written_once(registry):
    with pytest.raises(ProgramError, match="written once"):
        registry.register("triage", triage("Another."), "1")

    assert registry.load("triage", "1").sort.signature.instructions == triage().sort.signature.instructions


def test_a_file_that_is_there_is_taken_over_if_it_is_the_same_program(registry):
    save_program(triage("Sort it."), registry.folder, "triage", "2")

    with pytest.raises(ProgramError):
        registry.register("triage", triage("Another."), "2")
    registry.register("triage", triage("Sort it."), "2")

    assert stages(registry)["2"] == "candidate"


def test_a_changed_file_is_not_loaded(registry):
    path = registry.folder / "triage" / "1.json"
    path.write_text(path.read_text().replace("support", "sales"))

    with pytest.raises(RegistryError, match="not the file that was registered"):
        registry.load("triage", "1")


def served(registry: Registry, version: str = "1") -> set[str]:
    config = DeploymentConfig(programs_folder=registry.folder, program_version=version)
    return {of for program, of in Answering(config).programs if program == "triage"}


def test_what_is_retired_or_not_registered_or_was_changed_is_not_served_by_name(registry):
    for version in ("2", "3", "4"):
        registry.register("triage", triage(version), version)
    save_program(triage("Nobody knows it."), registry.folder, "triage", "9")
    registry.retire("triage", "3")
    (registry.folder / "triage" / "4.json").write_text("{}")

    assert served(registry) == {"1", "2"}
    assert served(registry, "3") == {
        "1",
        "2",
        "3",
    }  # its own setting: it may be started again
    assert served(registry, "9") == {"1", "2", "9"}
    registry.path.unlink()
    (registry.folder / "triage" / "4.json").unlink()
    assert served(registry) == {"1", "2", "3", "9"}  # nothing is checked without a registry


def test_what_the_service_could_not_load_is_not_registered(registry):
    for other in (desk.Answer(), dspy.Predict("ticket -> category")):
        with pytest.raises(ProgramError, match="no state of the program 'triage'"):
            registry.register("triage", other, "2")

    assert stages(registry) == {"1": "live"}
    assert not (registry.folder / "triage" / "2.json").exists()


@pytest.mark.parametrize("is_registered", [True, False])
def test_a_version_that_cannot_be_loaded_holds_up_no_other(registry, is_registered):
    path = registry.folder / "triage" / "2.json"
    if is_registered:
        registry.register("triage", triage("2"), "2")
        known = registry.path.read_text()
        damaged = known.replace(registry.version("triage", "2").digest, hashlib.sha256(b"{}").hexdigest())
        registry.path.write_text(damaged)
    else:
        registry.path.unlink()
    path.write_text("{}")

    assert served(registry) == {"1"}
    with pytest.raises(ProgramError, match=r"2\.json is no state"):
        served(registry, "2")


@pytest.mark.parametrize(
    "move",
    [
        lambda it: it.promote("triage", "2"),
        lambda it: it.start_canary("triage", "2"),
        lambda it: it.rollback("triage"),
    ],
    ids=["promote", "canary", "rollback"],
)
def test_a_version_whose_file_is_gone_comes_nowhere(registry, move):
    registry.register("triage", triage("2"), "2")
    registry.register("triage", triage("3"), "3")
    registry.promote("triage", "3")
    for version in ("1", "2"):
        (registry.folder / "triage" / f"{version}.json").unlink()
    before = registry.path.read_text()

    with pytest.raises(RegistryError, match="not the file that was registered"):
        move(registry)

    assert registry.path.read_text() == before


def test_no_other_program_takes_the_name_of_a_version_whose_file_is_gone(registry):
    (registry.folder / "triage" / "1.json").unlink()

    with pytest.raises(ProgramError, match="written once"):
        registry.register("triage", triage("Another."), "1")

    assert registry.live("triage").version == "1"


def test_a_registry_that_is_a_folder_is_told(tmp_path):
    (tmp_path / "registry.json").mkdir()

    with pytest.raises(RegistryError, match="cannot be read"):
        Registry(tmp_path).live("triage")


def test_a_replica_does_not_start_with_a_changed_file(registry):
    config = DeploymentConfig(programs_folder=registry.folder)
    path = registry.folder / "triage" / "1.json"
    path.write_text(path.read_text().replace("support", "sales"))

    with socket.socket() as listener, pytest.raises(RegistryError, match="not the file"):
        run(config, listener)


@pytest.mark.parametrize("damage", ["", "{", '{"programs": {"triage": {"versions": {"1": {}}}}}'])
def test_a_damaged_registry_is_told_and_left_as_it_is(registry, damage):
    registry.path.write_text(damage)

    with pytest.raises(RegistryError, match=r"registry\.json is damaged"):
        registry.register("triage", triage("Sort it."), "2")

    assert registry.path.read_text() == damage


@pytest.mark.parametrize(
    ("move", "told"),
    [
        (lambda it: it.start_canary("triage", "1"), "it is live"),
        (lambda it: it.start_canary("triage", "3"), "'2' is the canary"),
        (lambda it: it.retire("triage", "1"), "is live"),
        (lambda it: it.promote("triage", "9"), "registered are: 1, 2, 3"),
        (lambda it: it.rollback("triage"), "no version that was live before"),
        (lambda it: it.register("triage", triage(), "4", parent="9"), "no version '9'"),
        (lambda it: it.register("sorting", triage(), "1"), "no program 'sorting'"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused_and_changes_nothing(registry, move, told):
    for version in ("2", "3"):
        registry.register("triage", triage(version), version)
    registry.start_canary("triage", "2")
    before = registry.path.read_text()

    with pytest.raises(RegistryError, match=told):
        move(registry)

    assert registry.path.read_text() == before


def test_all_who_write_at_once_lose_nothing(registry):
    """The lock is the kernel's, and belongs to an open folder: two threads stand for two processes."""

    def register(name: str) -> None:
        for number in range(10):
            Registry(registry.folder).register("triage", triage(), f"{name}.{number}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(register, ["a", "b"]))

    assert len(registry.versions("triage")) == 21
