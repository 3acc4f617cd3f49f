"""What is told of a set: shares by task or class, and what is odd in it."""

import pytest

from pipelines.episodes.videos.facts import MOST_GROUPS, odd, shares
from pipelines.episodes.videos.video_set import Seen


def test_shares_go_by_task_or_class_and_there_are_none_of_neither() -> None:
    pushes = [{"frames": 30, "motion": 0.4, "task": "push", "success": won} for won in (True, False)]
    found = shares([*pushes, {"frames": 40, "motion": 1.0, "task": "reach", "success": True}])
    assert found == {
        "push": {"videos": 2, "frames": 60, "share": 0.6, "mean_length": 30, "motion": 0.4, "success": 0.5},
        "reach": {"videos": 1, "frames": 40, "share": 0.4, "mean_length": 40, "motion": 1.0, "success": 1.0},
    }
    plain = {"frames": 30, "motion": 0.4}
    assert [*shares([{**plain, "class": 93}, {**plain, "class": 7}])] == ["7", "93"]
    assert "success" not in shares([{**plain, "class": 93}])["93"]
    assert shares([plain]) == {} and shares([{**plain, "class": 93}, plain]) == {}
    assert shares([{**plain, "class": number} for number in range(MOST_GROUPS + 1)]) == {}
    assert sum(each["share"] for each in found.values()) == pytest.approx(1)


def test_odd_videos_are_named_by_what_is_odd_in_them() -> None:
    seen = [Seen("", "x", 0.5, 0), Seen("", "y", 0.0, 3), Seen("", "x", 0.6, 0)]
    found = {check: names for check, (names, _) in odd(["a", "b", "c"], seen).items()}
    assert found == {"frames_show": ["b"], "frames_move": ["b"], "no_duplicates": ["c as a"]}
