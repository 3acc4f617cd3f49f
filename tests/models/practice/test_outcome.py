"""Rewards as classes, and an ensemble that makes an actor curious: options of IRIS and of REM alike."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.api import Learning, Moment
from models.iris.agent import IrisAgent
from models.practice.bins import Bins
from models.practice.draws import likeliest
from models.rem.agent import RemAgent
from tests.models.iris.test_agent import CONFIG as IRIS
from tests.models.practice.learning import LEGAL, OBJECTIVES, gradients, segments
from tests.models.rem.small_rem import BURN_IN, STEPS, VARIANTS

FAMILIES = {"iris": (IrisAgent, IRIS), "rem": (RemAgent, VARIANTS["rem"]), "no pop": (RemAgent, VARIANTS["no pop"])}
PLAYS_UNTIL = 10


def made(name: str, **world: Any) -> Any:
    """An agent that is collecting play, with these options of its world model."""
    kind, config = FAMILIES[name]
    agent = kind(replace(config, world_model=replace(config.world_model, **world)), seed=3)
    agent.start(Learning(7, LEGAL, plays_until=PLAYS_UNTIL), OBJECTIVES)
    return agent


def segments_of(name: str, objective: str) -> Any:
    if name == "iris":
        return segments()
    return segments(steps=STEPS, side="right") if objective == "world_model" else segments(steps=BURN_IN + 1)


def terms(agent: Any, name: str, objective: str, step: int = 4) -> dict[str, float]:
    batch = segments_of(name, objective)
    losses = agent.loss(objective, batch, agent.counts(objective, batch), Moment(step, 0, 5))
    return {term: float(value.detach()) for term, value in losses.terms.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_rewards_are_learned_as_classes_and_told_as_what_is_expected(name: str) -> None:
    signs, points = (made(name, reward_bins=9, reward_reach=3.0, clip_rewards=clip) for clip in (True, False))
    head = signs.world_model.head_rewards
    plain = {key for key, _ in made(name).world_model.state_dict().items()}
    assert set(signs.world_model.state_dict()) == plain, "bins are no weights"
    batch = segments_of(name, "world_model")
    large = replace(batch, rewards_BT=batch.rewards_BT * 7)
    losses = [
        float(each.loss("world_model", given, each.counts("world_model", given), Moment(4, 0, 5)).terms["rewards"])
        for each in (signs, points)
        for given in (batch, large)
    ]
    assert losses[0] == losses[1] and losses[2] != losses[3], "signs know no size"
    player, drawn = signs.player(), []
    tokens_NK = torch.randint(0, 16, (3, signs.tokens_per_frame), generator=torch.Generator().manual_seed(0))
    player.reset(tokens_NK)
    rewards_N = player.step(
        torch.tensor([0, 1, 2]), lambda what, logits: (drawn.append(what), likeliest(what, logits))[1]
    ).rewards_N
    assert "rewards" not in drawn and "ends" in drawn
    newest = torch.zeros(2, head[0].in_features if name != "iris" else signs.config.world_model.width)
    logits = head(newest)
    assert logits.shape[-1] == 9 and Bins(9, 3.0).value(logits).shape == (2,)
    assert rewards_N.dtype == torch.float32 and float(rewards_N.detach().abs().max()) < 1, "fresh heads expect little"


@pytest.mark.parametrize("name", FAMILIES)
def test_an_ensemble_learns_while_play_is_collected_and_changes_nothing_else(name: str) -> None:
    agent, batch = made(name, ensemble=2), segments_of(name, "world_model")
    _, with_it = gradients(agent, "world_model", batch)
    _, without = gradients(made(name), "world_model", batch)
    members = {each for each in with_it if ".ensemble." in each}
    assert (
        len({each.split(".ensemble.heads.")[1][0] for each in members}) == 2
        and with_it.keys() - members == without.keys()
    )
    assert all(bool(with_it[each].any()) for each in members if each.endswith("weight"))
    assert "curiosity" in terms(agent, name, "world_model") and "curiosity" not in terms(agent, name, "world_model", 11)
    total, whole = gradients(agent, "world_model", batch)
    in_parts, split = gradients(agent, "world_model", batch, slice(0, 2), slice(2, 3), slice(3, 5))
    assert in_parts == pytest.approx(total, rel=1e-5)
    assert all(torch.allclose(split[each], whole[each], rtol=1e-3, atol=1e-5) for each in members)


@pytest.mark.parametrize("name", FAMILIES)
def test_curiosity_is_a_reward_until_play_ends(name: str) -> None:
    agent, plain = made(name, ensemble=2), made(name)
    agent.world_model.load_state_dict(plain.world_model.state_dict(), strict=False)
    agent.reconfigure(curiosity=1e4)  # fresh heads disagree little
    for network in ("tokenizer", "actor_critic"):
        agent.networks[network].load_state_dict(plain.networks[network].state_dict())
    bored, curious = (terms(agent, name, "actor_critic", step)["imagined_return"] for step in (11, 4))
    assert bored == pytest.approx(terms(plain, name, "actor_critic", 11)["imagined_return"], abs=1e-6)
    assert curious > terms(plain, name, "actor_critic", 4)["imagined_return"] + 0.01, "disagreement is above 0"


@pytest.mark.parametrize("name", ["iris", "rem"])
def test_what_has_no_effect_is_refused(name: str) -> None:
    _, config = FAMILIES[name]
    with pytest.raises(ValueError, match="reward_bins is 1, which says nothing"):
        replace(config.world_model, reward_bins=1)
    with pytest.raises(ValueError, match=r"are of bins, and world_model.reward_bins is 0"):
        replace(config.world_model, clip_rewards=False)
    with pytest.raises(ValueError, match=r"and world_model.ensemble is 0: set it to 4"):
        replace(config, actor_critic=replace(config.actor_critic, curiosity=2.0)).require_fit(STEPS)


def test_iris_refuses_an_ensemble_where_none_can_disagree() -> None:
    with pytest.raises(ValueError, match="ncp_frames says a frame at once"):
        replace(IRIS.world_model, kind="ncp_frames", ensemble=2)
    oracle = replace(IRIS, oracle=True, world_model=replace(IRIS.world_model, ensemble=2))
    with pytest.raises(ValueError, match="oracle practises in the game"):
        oracle.require_fit(3)


@pytest.mark.parametrize("name", ["iris", "rem"])
def test_values_as_classes_need_two_and_a_reach_needs_classes(name: str) -> None:
    _, config = FAMILIES[name]
    with pytest.raises(ValueError, match="value_bins is 1, which says nothing"):
        replace(config.actor_critic, value_bins=1)
    with pytest.raises(ValueError, match=r"value_reach is of bins, and actor_critic.value_bins is 0"):
        replace(config.actor_critic, value_reach=5.0)
    assert "value_reach" in config.meaning["actor_critic"], "it is not in names and shapes"


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_of_these_options_do_not_go_out_as_the_originals(name: str) -> None:
    assert made(name).original_state_dict("world_model")
    for option in ("reward_bins", "ensemble"):
        with pytest.raises(ValueError, match=f"world_model.{option} gives this agent weights"):
            made(name, **{option: 2}).original_state_dict("world_model")
