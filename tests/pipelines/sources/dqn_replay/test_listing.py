"""Listing finds the log files and nothing else, and names the one that is missing."""

import os

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.dqn_replay.listing import (
    ALL_KINDS,
    KINDS,
    SIDE_KINDS,
    LogName,
    RemoteObject,
    file_name,
    list_objects,
    log_folder,
    parse_name,
)
from pipelines.sources.source import digest

FOLDER = log_folder("Freeway", 1)


@pytest.fixture
def bucket(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for checkpoint in (10, 2, 0):
        for kind in ALL_KINDS:
            (folder / file_name(kind, checkpoint)).write_bytes(b"x" * (checkpoint + 1))
    (folder / "README.txt").write_text("not a log")
    (folder / "checkpoints").mkdir()
    return tmp_path


def test_objects_come_in_numeric_order_with_sizes(bucket) -> None:
    objects = list_objects(f"file://{bucket}/", "Freeway", 1)
    assert [(o.log.checkpoint, o.log.kind) for o in objects] == [(n, kind) for n in (0, 2, 10) for kind in ALL_KINDS]
    assert objects[0].bytes == 1 and objects[-1].bytes == 11
    assert objects[0].name == f"{FOLDER}/$store$_observation_ckpt.0.gz"
    assert objects[0].url == f"file://{bucket}/{objects[0].name}"
    assert fsspec.open(objects[0].url).fs.exists(objects[0].url)


def test_digest_sees_any_change_and_no_order(bucket) -> None:
    objects = list_objects(f"file://{bucket}", "Freeway", 1)
    assert digest(objects) == digest(objects[::-1])
    (bucket / objects[3].name).write_bytes(b"longer than before")
    assert digest(list_objects(f"file://{bucket}", "Freeway", 1)) != digest(objects)
    assert digest([]) != digest(objects)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_missing_kind_is_named(bucket, kind) -> None:
    (bucket / FOLDER / file_name(kind, 2)).unlink()
    with pytest.raises(WorldlineError) as caught:
        list_objects(f"file://{bucket}", "Freeway", 1)
    assert file_name(kind, 2) in str(caught.value) and "missing" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", SIDE_KINDS)
def test_side_files_can_be_done_without_and_who_needs_them_is_told_how(bucket, kind) -> None:
    for checkpoint in (0, 2):
        (bucket / FOLDER / file_name(kind, checkpoint)).unlink()
    with pytest.raises(WorldlineError, match=rf"{kind} of 2 of 3 logs .*\(--set fetch.compat=jowa\)") as caught:
        list_objects(f"file://{bucket}", "Freeway", 1)
    assert "\n" not in str(caught.value)
    assert len(list_objects(f"file://{bucket}", "Freeway", 1, KINDS)) == 3 * len(ALL_KINDS) - 2
    (bucket / FOLDER / file_name("action", 2)).unlink()
    with pytest.raises(WorldlineError, match="checkpoint 2 needs all of observation, action, reward, terminal;"):
        list_objects(f"file://{bucket}", "Freeway", 1, KINDS)


def test_no_folder_and_no_logs_are_errors(bucket) -> None:
    with pytest.raises(WorldlineError, match=r"Freeway/2/replay_logs does not exist .*/Freeway holds 1\)"):
        list_objects(f"file://{bucket}", "Freeway", 2)
    (bucket / log_folder("Pong", 1)).mkdir(parents=True)
    with pytest.raises(WorldlineError, match="holds no replay log"):
        list_objects(f"file://{bucket}", "Pong", 1)
    with pytest.raises(WorldlineError, match=r"does not exist \(nor does .*/typo\)"):
        list_objects(f"file://{bucket}/typo", "Freeway", 1)


# ---- what is there is never called absent ----


@pytest.mark.parametrize(
    "there",
    [
        "%24store%24_action_ckpt.2.gz",  # a downloader that keeps the URL's escapes
        "$_action_ckpt.2.gz",  # a shell that looked for a variable called `store`
        "$STORE$_ACTION_CKPT.2.GZ",
        "$store$_action_ckpt.2",
        "$store$_action_ckpt.2.npy.gz",
        "_store__actions_ckpt.02.gz",
    ],
)
def test_a_file_under_another_name_is_named(bucket, there) -> None:
    folder, right = bucket / FOLDER, file_name("action", 2)
    (folder / right).rename(folder / there)
    with pytest.raises(WorldlineError) as caught:
        list_objects(f"file://{bucket}", "Freeway", 1)
    assert there in str(caught.value) and f"rename it to '{right}'" in str(caught.value)
    assert "missing" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_or_a_broken_link_in_a_files_place_is_said(bucket) -> None:
    path = bucket / FOLDER / file_name("reward", 2)
    path.unlink()
    path.mkdir()
    with pytest.raises(WorldlineError, match="a folder has that name"):
        list_objects(f"file://{bucket}", "Freeway", 1)
    path.rmdir()
    path.symlink_to(bucket / "nowhere")
    with pytest.raises(WorldlineError, match="a dead link has that name"):
        list_objects(f"file://{bucket}", "Freeway", 1)


def test_files_behind_links_are_read(bucket, tmp_path) -> None:
    """As caches of downloads keep them, and as a disk is spread over several mounts."""
    expected = list_objects(f"file://{bucket}", "Freeway", 1)
    for item in expected:
        path, elsewhere = bucket / item.name, tmp_path / "cache" / item.name.replace("/", "-")
        elsewhere.parent.mkdir(exist_ok=True)
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    assert list_objects(f"file://{bucket}", "Freeway", 1) == expected


def test_a_file_in_a_folders_place_and_a_wrong_case_are_said(bucket) -> None:
    (bucket / "Pong" / "1").mkdir(parents=True)
    (bucket / "Pong" / "1" / "replay_logs").write_text("not a folder")
    with pytest.raises(WorldlineError, match="is a file where a folder of objects is expected"):
        list_objects(f"file://{bucket}", "Pong", 1)
    (bucket / "Qbert").write_text("not a folder")
    with pytest.raises(WorldlineError, match="a part of that path is a file"):
        list_objects(f"file://{bucket}", "Qbert", 1)
    (bucket / "breakout").mkdir()
    with pytest.raises(WorldlineError, match=r"does not exist .* holds breakout\)"):
        list_objects(f"file://{bucket}", "Breakout", 1)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (PermissionError(13, "Permission denied"), "give yourself the right to"),
        (OSError(5, "Input/output error"), "that disk"),
    ],
)
def test_a_listing_that_is_refused_is_no_absence(bucket, monkeypatch, refusal, words) -> None:
    def refuse(*_: object) -> None:
        raise refusal

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(WorldlineError, match=f"cannot be read .*{refusal.strerror}.*{words}"):
        list_objects(f"file://{bucket}", "Freeway", 1)


def test_an_unknown_kind_of_url_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no bucket URL") as caught:
        list_objects("gopher://bucket", "Freeway", 1)
    assert "\n" not in str(caught.value)


def test_a_foreign_name_is_no_log() -> None:
    with pytest.raises(ValueError, match="no log file"):
        _ = RemoteObject("u", "a/b.txt", 1, None, None).log


# ---- file names of the replay bucket, both ways ----


def test_names_are_those_of_the_public_bucket() -> None:
    assert log_folder("MsPacman", 3) == "MsPacman/3/replay_logs"
    assert file_name("observation", 0) == "$store$_observation_ckpt.0.gz"
    assert file_name("terminal", 50) == "$store$_terminal_ckpt.50.gz"
    assert file_name("add_count", 7) == "add_count_ckpt.7.gz"
    assert file_name("invalid_range", 7) == "invalid_range_ckpt.7.gz"


@given(st.sampled_from(ALL_KINDS), st.integers(0, 10**6))
def test_parsing_undoes_naming(kind: str, checkpoint: int) -> None:
    assert parse_name(file_name(kind, checkpoint)) == LogName(checkpoint, kind)
    assert str(LogName(checkpoint, kind)) == file_name(kind, checkpoint)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "checkpoint.3.gz",
        "observation_ckpt.3.gz",
        "$store$_add_count_ckpt.3.gz",
        "$store$_action_ckpt.03.gz",
        "$store$_action_ckpt.-1.gz",
        "$store$_action_ckpt.٣.gz",
        "$store$_action_ckpt.3.gz.part",
        "x/$store$_action_ckpt.3.gz",
        "$store$_action_ckpt.3.gz\n",
    ],
)
def test_other_files_are_not_log_files(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(("kind", "checkpoint"), [("observations", 0), ("action", -1)])
def test_impossible_names_are_refused(kind: str, checkpoint: int) -> None:
    with pytest.raises(ValueError, match="kinds are observation"):
        file_name(kind, checkpoint)
