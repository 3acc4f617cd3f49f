"""REM's recipes: what each changes, that it fits together, and the numbers of the paper's."""

import pytest

from models.rem.config import RemConfig
from pipelines.errors import UsageError
from pipelines.recipes.registry import RECIPES, recipe
from pipelines.stages.learn import LearnConfig

SMALL = "rem_freeway"  # which is no ablation of the paper
REM = [name for name in RECIPES if name.startswith("rem") and name != SMALL]


def networks(name: str) -> RemConfig:
    found = recipe(name).of(LearnConfig).networks
    assert isinstance(found, RemConfig)
    return found


def test_each_ablation_changes_one_part_and_fits_together() -> None:
    plain, changed = networks("rem"), {}
    for name in REM:
        networks(name).require_fit(10)
        parts = ("tokenizer", "world_model", "actor_critic", "weights")
        changed[name] = [part for part in parts if getattr(networks(name), part) != getattr(plain, part)]
    assert changed == {
        "rem": [],
        "rem_4x4": ["tokenizer"],
        "rem_no_pop": ["world_model"],
        "rem_separate_embeddings": ["world_model"],
        "rem_no_action_inputs": ["actor_critic"],
        "rem_pixel_critic": ["actor_critic"],
    }
    assert networks("rem_4x4").tokenizer.tokens_per_frame == 16


def test_the_small_one_plays_nothing_and_keeps_the_papers_actor_inputs() -> None:
    learn, small = recipe(SMALL).of(LearnConfig), networks(SMALL)
    small.require_fit(10)
    assert learn.offline and {use.name for use in learn.uses} == {"tokenizer", "world_model", "actor_critic"}
    assert small.actor_critic.action_inputs and small.actor_critic.burn_in == networks("rem").actor_critic.burn_in
    assert small.world_model.shared_embeddings and small.tokenizer.tokens_per_frame == 36


def test_the_schedule_is_the_papers() -> None:
    learn = recipe("rem").of(LearnConfig)
    rows = [(use.name, use.batch, use.updates, use.lr, use.start, use.weight_decay, use.clip) for use in learn.uses]
    assert rows == [
        ("tokenizer", 128, 200, 1e-4, 5, 0.01, 10.0),
        ("world_model", 64, 200, 2e-4, 25, 0.05, 100.0),
        ("actor_critic", 128, 100, 1e-4, 50, 0.01, 3.0),
    ]
    assert learn.sampling == "steps" and learn.networks.least("actor_critic") == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("learn.world_model.context=10", "context 10 leaves none of 10 blocks"),
        ("learn.actor_critic.horizon=11", "horizon 11 is to hold a context of 2"),
        ("learn.tokenizer.embed_dim=128", "cannot be read by a world model of width 256"),
        ("learn.actor_critic.kind=pixels", "set actor_critic.rnn=lstm and actor_critic.action_inputs=false"),
        ("learn.tokenizer.decoder_groups=33", "do not divide into 33 norm groups"),
    ],
)
def test_numbers_that_do_not_fit_are_one_line(change: str, words: str) -> None:
    with pytest.raises((UsageError, ValueError), match=words) as error:
        recipe("rem", [change]).of(LearnConfig).networks.require_fit(10)
    assert "\n" not in str(error.value)
