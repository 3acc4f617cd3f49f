"""File names of the replay bucket, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.dqn_replay.listing import ALL_KINDS, LogName, file_name, log_folder, parse_name


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
