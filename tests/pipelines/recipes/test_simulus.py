"""Simulus's recipe: that it fits together, and the published numbers."""

import pytest

from models.simulus.config import SimulusConfig
from pipelines.batches.memory import Draws
from pipelines.errors import UsageError
from pipelines.recipes.registry import recipe
from pipelines.stages.learn import LearnConfig


def networks(*changes: str) -> SimulusConfig:
    found = recipe("simulus", changes).of(LearnConfig).networks
    assert isinstance(found, SimulusConfig)
    return found


def test_the_numbers_are_the_published_ones() -> None:
    learn = recipe("simulus").of(LearnConfig)
    rows = [(use.name, use.batch, use.updates, use.lr, use.start, use.weight_decay, use.clip) for use in learn.uses]
    assert rows == [
        ("tokenizer", 128, 200, 1e-4, 5, 0.01, 10.0),
        ("world_model", 32, 200, 2e-4, 25, 0.05, 3.0),
        ("actor_critic", 128, 80, 2e-4, 50, 0.01, 3.0),
    ]
    assert (learn.rounds, learn.collect.steps, learn.collect.until, learn.collect.epsilon) == (600, 200, 500, 0.01)
    assert learn.rules == {"tokenizer": "steps", "world_model": "losses", "actor_critic": "steps"}
    assert learn.draws == Draws(share=0.3, fresh=10.0, up=True)
    plain = networks()
    plain.require_fit(10)
    tokenizer, world, actor = plain.tokenizer, plain.world_model, plain.actor_critic
    assert (tokenizer.tokens_per_frame, tokenizer.fsq_levels) == (64, (8, 8, 8))
    assert (world.backbone, world.layers, world.heads, world.width, world.ensemble) == ("attention", 10, 4, 256, 4)
    assert round(world.reward_reach, 3) == 10.395 and (world.reward_bins, actor.value_bins) == (129, 129)
    assert (actor.gamma, actor.lambda_, actor.entropy, actor.horizon) == (0.99, 0.95, 0.001, 10)
    assert actor.return_buffer == 500 * 128 * (plain.imagined_steps - 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("learn.world_model.context=10", "context 10 leaves none of 10 blocks"),
        ("learn.actor_critic.horizon=11", "horizon 11 is to hold a context of 2"),
        ("learn.tokenizer.vocab_size=511", r"fsq_levels \(8, 8, 8\) make 512 tokens"),
        ("learn.weights.commitment=1.0", "FSQ has none to learn"),
        ("learn.world_model.heads=3", "give heads of a multiple of 8 numbers"),
    ],
)
def test_numbers_that_do_not_fit_are_one_line(change: str, words: str) -> None:
    with pytest.raises((UsageError, ValueError), match=words) as error:
        networks(change).require_fit(10)
    assert "\n" not in str(error.value)
