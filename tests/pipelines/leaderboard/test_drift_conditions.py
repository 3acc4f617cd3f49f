"""What keeps two scores from being compared, in words."""

import pytest

from pipelines.leaderboard.drift import Conditions

KNOWN = Conditions("jowa", "8e0a", "", (16,))
UNKNOWN = Conditions("jowa", "", "a paper", (16,))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (KNOWN, []),
        (Conditions("sticky", "8e0a", "", (16,)), ["protocol jowa against sticky"]),
        (Conditions("jowa", "c3ef", "", (16,)), ["another ROM"]),
        (UNKNOWN, ["the ROM of one is not recorded"]),
        (Conditions("jowa", "8e0a", "", (8,)), ["16 episodes a game against 8"]),
        (Conditions("jowa", "8e0a", "", (8, 16)), ["16 episodes a game against 8 to 16"]),
        (Conditions("sticky", "", "x", (1,)), ["protocol jowa against sticky", "the ROM of one is not recorded"]),
    ],
)
def test_differences(other, words):
    assert KNOWN.differences(other)[: len(words) or None] == words


def test_unknown_roms_are_the_same_only_in_one_source():
    assert UNKNOWN.differences(UNKNOWN) == []
    assert UNKNOWN.differences(Conditions("jowa", "", "another paper", (16,))) == ["neither ROM is recorded"]
