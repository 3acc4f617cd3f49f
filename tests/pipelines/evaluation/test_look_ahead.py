"""Looking ahead disturbs no play and tells what a step then brings; plays of a comparison begin apart, and alike."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.environments.registry import protocol
from pipelines.evaluation import look_ahead
from pipelines.evaluation.look_ahead import CHOICES, Looker, apart, play_by, watched_game
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import pick
from tests.pipelines.conftest import TinyRun

GAME, SEEDS = "Breakout", (3, 5)


def test_looking_ahead_tells_what_a_step_brings_lost_lives_too() -> None:
    rules = replace(protocol("jowa"), life_loss=True)
    draws, ended = np.random.default_rng(0), []
    with closing(watched_game(GAME, SEEDS, rules)) as game, closing(watched_game(GAME, SEEDS, rules)) as other:
        assert (game.reset() == other.reset()).all()
        for _ in range(150):
            actions = draws.choice([0, 1, 3, 4], 2)
            told = [game.ahead(row, int(action)) for row, action in enumerate(actions)]
            game.ahead(0, 3)
            brought = game.step(actions)
            for row, (frame, reward, ends) in enumerate(told):
                assert (reward, ends) == (brought.rewards[row], brought.terminated[row])
                assert ends or (frame == brought.frames[row]).all(), "after an end there is the next episode's frame"
            assert (other.step(actions).frames == brought.frames).all(), "as if nobody had looked ahead"
            ended += brought.terminated.tolist()
    assert sum(ended) >= 4, "Breakout has five lives, and random play loses them"


def test_a_held_action_brings_what_its_steps_bring_one_after_another() -> None:
    rules, found = protocol("jowa"), []
    with closing(watched_game("Pong", (3,), rules)) as game:
        game.reset()
        for action in (3, 4, 3, 0) * 8:
            told = game.held(0, action, 6)
            found.append(told)
            for step in range(6):
                assert game.step(np.array([action])).rewards[0] == told[step]
    assert np.abs(found).sum() >= 2, "the first balls of Pong are lost"


def test_how_far_next_frames_are_apart_is_counted_in_tokens_over_all_pairs_of_actions() -> None:
    # The second action changes one token of three, the third all: 1, 3 and 3 between pairs.
    tokens_SAK = np.array([[[1, 2, 3], [1, 2, 0], [4, 5, 6]], [[7, 7, 7]] * 3], dtype=float)
    assert apart(tokens_SAK).tolist() == pytest.approx([7 / 3, 0])


@pytest.mark.slow
def test_plays_under_rules_without_chance_differ_by_seed_and_begin_alike_for_all_choices(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = load_agent(tiny.made["world_action_model"], pick("float32"))
    begun: list[np.ndarray] = []

    def choose(looker: Looker, world: Any, seen: Any, game: Any) -> torch.Tensor:
        begun.append(game.screens())
        return torch.zeros(len(SEEDS), dtype=torch.long)

    def play() -> tuple[np.ndarray, np.ndarray]:
        """The screens at the first and at the last choice."""
        begun.clear()
        with closing(watched_game(GAME, SEEDS, protocol("jowa"))) as game:
            play_by(Looker(agent, GAME, 2), game, 3, "greedy")
        assert len(begun) == 3
        return begun[0], begun[-1]

    monkeypatch.setitem(CHOICES, "greedy", choose)
    (first, last), (again, _) = play(), play()
    assert (first[0] != first[1]).any() and (last[0] != last[1]).any() and (first == again).all()
    monkeypatch.setattr(look_ahead, "AT_RANDOM", 0)
    _, same = play()
    assert (same[0] == same[1]).all(), "without steps at random all plays are one"
