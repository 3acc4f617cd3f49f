"""Both sides of REM's benchmark imagine the same, in as many passes as they say."""

import torch

from pipelines.tools.bench.imagine_rem import QUICK_REM, rem_rows, sides


def test_fused_and_plain_draw_the_same_and_all_three_take_the_passes_that_they_say() -> None:
    torch.set_num_threads(1)
    calls = sides(QUICK_REM)
    steps = QUICK_REM.networks.imagined_steps
    for call in calls:
        call()
        assert call.tokens_NHK.shape == (2, steps - 1, 4)
        assert call._player.remembered.steps == QUICK_REM.networks.actor_critic.horizon
    fused, plain, _ = calls
    assert torch.equal(fused.tokens_NHK, plain.tokens_NHK)
    told = []
    for call in calls:
        call._player.follow(torch.zeros(2, 2, 4).long(), torch.zeros(2, 1).long())
        call._player.step(torch.zeros(2).long(), lambda what, logits: logits.argmax(-1))
        told.append(call._player.remembered.passes)
    assert told == [1, 2, 5]


def test_its_rows_say_what_was_measured_against_what() -> None:
    rows = rem_rows(QUICK_REM)
    assert [row.name for row in rows] == ["rem-fused", "rem-pop"]
    assert all(row.ratio > 0 and "2 rows, horizon 4" in row.what for row in rows)
    assert rows[0].conditions[0][1] and "2 of 2 rows" in rows[0].conditions[0][0]
