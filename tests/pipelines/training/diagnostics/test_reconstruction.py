"""Sight: every figure of a toy game by hand, errors on changing pixels alone, held-out frames alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.batches.loader import SegmentSource
from pipelines.environments.registry import game_id
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.training.device import Device
from pipelines.training.diagnostics.reconstruction import Sight, held_out_pairs, measure, summary
from pipelines.training.inputs import mean_frame, sources
from tests.pipelines.training.toy_game import GAME, ToyAgent, ToyWorld, make_game

CPU = Device("cpu", False)


def source_of(store: Store, cache: Path, *lengths: int, holdout: int = 1) -> SegmentSource:
    data, cut = make_game(store, *lengths)
    return sources([data], [cut], holdout, [], cache)[0]


def test_every_figure_by_hand(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10, 10, 10)
    pairs = held_out_pairs(source, 1, 100, 4, seed=0)
    found = measure(ToyAgent(), ToyWorld(rise=4), source, pairs, CPU)
    assert found.codes_used == 6  # next frames at steps 4..9, brightness 8, 10, ... 18
    assert found.perplexity == pytest.approx(6.0)
    assert found.changed_share == 0.5  # the left half
    assert found.reconstruction_error == pytest.approx(3.0, abs=1e-4)  # the tokenizer's bias
    assert found.mean_frame_error == pytest.approx((1 + 1 + 3 + 5 + 7 + 9) / 6)  # from 9, the mean of 0, 2, ... 18
    assert found.next_frame_error == pytest.approx(4 + 3 - 2, abs=1e-4)  # rises by 4 and bias, truly by 2
    assert found.copy_last_error == 2.0
    assert not found.beats_baselines
    assert measure(ToyAgent(), ToyWorld(rise=0), source, pairs, CPU).beats_baselines  # 0 + 3 - 2 is below 2


def test_windows_are_real_context_with_the_actions_taken(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10, 10, 12)
    world = ToyWorld(rise=0)
    pairs = held_out_pairs(source, 1, 100, 4, seed=0)
    measure(ToyAgent(), world, source, pairs, CPU)
    (context,) = world.contexts
    assert context.tokens_NCK[..., 0].tolist() == [[2 * (first + step) for step in range(4)] for first in range(8)]
    actions = torch.as_tensor(source.actions[20:].astype(np.int64)).unfold(0, 4, 1)[:8]
    assert torch.equal(context.actions_NC, actions[:, :3])
    assert torch.equal(world.actions[0], actions[:, 3])
    assert set(context.games_N.tolist()) == {game_id(GAME)}


def test_windows_lie_within_one_held_out_episode(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 30, 9, 5, 6, holdout=3)
    pairs = held_out_pairs(source, 3, 100, 4, seed=0)
    assert pairs.next_PHW[:, 0, 0].tolist() == [8, 10, 12, 14, 16, 8, 8, 10]
    assert (np.diff(pairs.context_PCHW[..., 0, 0].astype(int), axis=1) == 2).all()


def test_a_sample_of_the_windows_depends_on_the_seed_alone(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10, 60)
    one, again, other = (held_out_pairs(source, 1, 9, 4, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.next_PHW, again.next_PHW)
    assert not np.array_equal(one.next_PHW, other.next_PHW)
    assert len(one.next_PHW) == 9
    assert len(np.unique(one.next_PHW[:, 0, 0])) == 9


def test_the_mean_frame_knows_nothing_of_held_out_play(store: Store, tmp_path: Path) -> None:
    found = mean_frame(source_of(store, tmp_path, 10, 10, 100))
    assert found.dtype == np.float32
    assert (found[:, :42] == 9).all()
    assert (found[:, 42:] == 50).all()


def test_a_single_episode_is_measured_on_itself(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10)
    assert len(held_out_pairs(source, 1, 100, 4, seed=0).next_PHW) == 6


def test_held_out_episodes_that_are_too_short_are_named(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 30, 4, 3, holdout=2)
    with pytest.raises(WorldlineError, match=r"of Freeway have \[4, 3\] steps, .* windows of 5: raise loop"):
        held_out_pairs(source, 2, 100, 4, seed=0)


def test_summary_says_the_numbers_and_passes_only_when_all_games_do() -> None:
    good = Sight(40, 38.4, 0.02, 3.0, 9.0, 4.0, 8.0)
    blind = Sight(8, 6.6, 0.02, 9.5, 9.0, 4.0, 8.0)
    assert summary({"Pong": good}) == (
        True,
        "Pong: reconstruction 3.0 against mean frame 9.0, next frame 4.0 against copy 8.0, code perplexity 38",
    )
    passed, detail = summary({"Pong": good, "Boxing": blind})
    assert not passed
    assert "Boxing: reconstruction 9.5 against mean frame 9.0" in detail
    assert Sight(1, 1.23456, 0.1, 1, 2, 3, 3).to_metrics()["perplexity"] == 1.2346
    assert not Sight(1, 1.0, 0.1, 1, 2, 3, 3).beats_baselines
