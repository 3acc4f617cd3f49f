"""Each check against a replay that it should and one that it should not find wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.sources.dqn_replay.log_checks import CheckResult, check_logs
from pipelines.sources.dqn_replay.ring_log import RingLog
from pipelines.sources.dqn_replay.stitch import Stitched, stitch
from pipelines.stages.fetch import FetchConfig
from tests.pipelines.sources.dqn_replay.toy import Kept, Liar, play


def judged(found: Stitched, left_out: tuple[str, ...] = (), lenient: bool = False) -> dict[str, CheckResult]:
    return {each.name: each for each in check_logs(found, left_out, "Freeway", lenient)}


def logs(lengths: list[int], kind: type[Kept] = Kept, **options) -> list[RingLog]:
    ring = kind(capacity=48, stack_size=4, **options)
    play(ring, Path(), lengths, idle=0.0, lively=True)
    return ring.taken


def test_a_sound_replay_passes_all_in_the_order_of_the_config() -> None:
    found = judged(stitch(logs([13] * 20), 1, 4))
    assert list(found) == [*FetchConfig.CHECKS[:-2]]
    assert all(each.passed for each in found.values())
    assert all(isinstance(n, int) for each in found.values() for n in each.counts.values())
    assert found["add_count"].detail.startswith("rises by 48")
    assert found["blank_rows"].counts["padded"] > 10 and found["blank_rows"].counts["bare"] == 0


@pytest.mark.parametrize(("lenient", "blocking"), [(False, True), (True, False)])
def test_no_pattern_of_blank_rows_blocks_unless_rows_are_kept_as_they_are(lenient, blocking) -> None:
    taken = logs([13] * 20)
    actions = taken[1].actions.copy()
    actions[:] = 1
    mixed = [taken[0], replace(taken[1], actions=actions), *taken[2:]]
    found = judged(stitch(mixed, 1, 4), lenient=lenient)["blank_rows"]
    assert not found.passed and found.blocking is blocking and found.counts["files_none"] == 1


def test_a_writer_without_padding_is_a_pattern() -> None:
    found = judged(stitch(logs([13] * 20, pads=False), 1, 4))
    assert found["blank_rows"].passed and found["blank_rows"].counts["padded"] == 0


def test_rows_that_refute_the_count_are_told_and_do_not_block() -> None:
    found = judged(stitch(logs([22, 68] * 10, Liar), 1, 4))
    assert not found["add_count"].passed and not found["add_count"].blocking
    assert found["add_count"].counts["order_refuted"] > 0 and "contradict" in found["add_count"].detail
    assert not found["no_gap"].passed and "disordered" in found["no_gap"].detail


def test_an_episode_above_the_limit_is_a_finding() -> None:
    found = judged(stitch(logs([13] * 5 + [20] + [13] * 5), 1, 4, time_limit=13))
    assert not found["episode_length"].passed and not found["episode_length"].blocking
    assert found["episode_length"].counts == {"longest": 20, "truncated": 10, "too_long": 1}


def test_only_rows_that_are_used_are_judged() -> None:
    taken = logs([13] * 2)  # 32 rows of 48
    actions = taken[0].actions.astype(np.int64)
    actions[40] = 99
    assert judged(stitch([replace(taken[0], actions=actions)], 1, 4))["actions_minimal"].passed
    actions[10] = 99
    found = judged(stitch([replace(taken[0], actions=actions)], 1, 4))["actions_minimal"]
    assert not found.passed and found.blocking and found.counts == {"rows": 32, "odd": 1}


def test_nothing_complete_blocks() -> None:
    ring = Kept(capacity=48, stack_size=4)
    play(ring, Path(), [], unfinished=20)
    found = judged(stitch(ring.taken, 1, 4))["any_complete_episode"]
    assert not found.passed and found.blocking and found.counts == {"complete": 0, "incomplete": 1}


def test_logs_left_out_are_named() -> None:
    found = judged(stitch(logs([13] * 20), 1, 4), left_out=("log 7 (action 5, reward 6)",))["lengths_agree"]
    assert not found.passed and "log 7" in found.detail and found.counts["left_out"] == 1
