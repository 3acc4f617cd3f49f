"""Pools have numbers that a person sets under names that stages use; a name that none uses is one line."""

import pytest

from assets.instance import open_instance
from assets.launch import main
from assets.pools import POOLS, read
from pipelines.errors import UsageError
from pipelines.graph import table

pytestmark = pytest.mark.usefixtures("ready_home")


def limits() -> dict[str, int]:
    with open_instance() as instance:
        return {each.name: each.limit for each in instance.event_log_storage.get_pool_limits()}


def test_every_pool_of_a_stage_has_a_number_in_a_new_home() -> None:
    assert limits() == POOLS
    assert {row.pool for row in table.STAGES if row.pool} == POOLS.keys()


def test_numbers_are_set_by_name_and_the_others_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pools", "gpu=2", "disk=0"]) == 0
    assert limits() == {"gpu": 2, "network": 4, "disk": 0}
    rows = {
        row[0]: row[1:] for line in capsys.readouterr().out.splitlines()[1:] if (row := line.strip().split(maxsplit=2))
    }
    assert rows["gpu"][0] == "2" and "world_action_model" in rows["gpu"][1]
    assert rows["disk"][0] == "0" and rows["network"] == ["4", "replay"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["gpus=2"], "Unknown pool 'gpus': did you mean 'gpu'?"),
        (["gpu=3", "discs=1"], "Unknown pool 'discs': did you mean 'disk'?"),
        (["=2"], "Unknown pool '': choose one of disk, gpu, network"),
        *((([f"gpu={number}"]), f"'gpu={number}' says no number") for number in ("", "two", "-1", "1.5", "²", "1001")),
        (["gpu=0000000009999"], "'gpu=0000000009999' says no number of runs: write gpu=2, a whole number from 0"),
        (["gpu"], "'gpu' says no number of runs"),
    ],
    ids=str,
)
def test_an_unknown_pool_or_a_wrong_number_is_one_line(changes: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(changes)
    assert str(caught.value).startswith(said)


def test_one_wrong_name_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pools", "gpu=3", "discs=1"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("Unknown pool 'discs': did you mean 'disk'?") and err.count("\n") == 1 and not out
    assert limits() == POOLS


def test_a_pool_that_dagster_was_told_of_in_vain_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with open_instance() as instance:
        instance.event_log_storage.set_concurrency_slots("gpus", 8)
    assert main(["pools"]) == 0
    [row] = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines() if line.startswith(" gpus")]
    assert (row[1], row[2].strip()) == ("8", "none: it limits nothing")
