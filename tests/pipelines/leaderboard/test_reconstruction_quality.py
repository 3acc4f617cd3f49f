"""The verdict on sight: only strictly lower than the baseline counts."""

import pytest

from pipelines.leaderboard.reconstruction_quality import judge


@pytest.mark.parametrize(
    ("pairs", "verdict", "good"),
    [
        ([], "not measured", None),
        ([("the mean frame", None, 0.1), ("copying", 0.1, None)], "not measured", None),
        ([("the mean frame", 0.1, 0.2), ("copying", None, None)], "sees: beats the mean frame", True),
        ([("the mean frame", 0.1, 0.2), ("copying", 0.0, 0.1)], "sees: beats the mean frame and copying", True),
        ([("the mean frame", 0.1, 0.2), ("copying", 0.1, 0.1)], "blind: no better than copying", False),
        (
            [("the mean frame", 0.3, 0.2), ("copying", 0.2, 0.1)],
            "blind: no better than the mean frame or copying",
            False,
        ),
    ],
)
def test_judge(pairs, verdict, good):
    assert judge(pairs) == (verdict, good)
