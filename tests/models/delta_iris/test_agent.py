"""The agent of Delta-IRIS: what learns from what, that padding changes nothing, how it plays and tells."""

from dataclasses import replace

import pytest
import torch

from models.api import Acting, Batch, Context, Learning, Moment, rows_of
from models.delta_iris.agent import DeltaIrisAgent
from models.delta_iris.config import AS_THE_ORIGINAL, DeltaIrisConfig
from models.worlds import TellsChanges
from tests.models.delta_iris.small_delta import ACTIONS, BURN_IN, CONFIG, LEGAL, SIDE, STEPS, segments
from tests.models.practice.learning import OBJECTIVES, gradients, require_own_network, require_parts_add_up

TWO_HOT = replace(
    CONFIG,
    world_model=replace(CONFIG.world_model, rewards="two_hot"),
    actor_critic=replace(CONFIG.actor_critic, values="two_hot"),
)
VARIANTS = {"sign": CONFIG, "two-hot": TWO_HOT, "as the original": replace(CONFIG, faults=AS_THE_ORIGINAL)}


def learning_agent(config: DeltaIrisConfig = CONFIG) -> DeltaIrisAgent:
    agent = DeltaIrisAgent(config, seed=3)
    agent.start(Learning(7, LEGAL), OBJECTIVES)
    return agent


def batch_for(objective: str) -> Batch:
    return segments(steps=BURN_IN + 1, side="left") if objective == "actor_critic" else segments()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_trains_its_own_network_whole_and_no_other(variant: str, objective: str) -> None:
    agent = learning_agent(VARIANTS[variant])
    agent.config.require_fit(STEPS)
    named = agent.networks[objective].named_parameters()
    of_target = {f"{objective}.{name}" for name, _ in named if "target_model" in name}
    assert bool(of_target) == (objective == "actor_critic")
    require_own_network(agent, objective, batch_for(objective), of_target)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_of_a_batch_add_up_to_the_whole_where_they_may_be_taken(variant: str) -> None:
    agent = learning_agent(VARIANTS[variant])
    require_parts_add_up(agent, "world_model", segments(), atol=1e-5)
    assert agent.config.whole_batches("tokenizer") and agent.config.whole_batches("actor_critic")


def with_noise_as_padding(batch: Batch) -> Batch:
    """The same segments, whose padding shows something."""
    noise = torch.randint(0, 256, batch.frames_BTCHW.shape, dtype=torch.uint8)
    shown = torch.where(batch.mask_BT[..., None, None, None], batch.frames_BTCHW, noise)
    return replace(batch, frames_BTCHW=shown, rewards_BT=batch.rewards_BT + 5 * (~batch.mask_BT))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_padding_shows_changes_nothing_unless_the_original_is_to_be_repeated(objective: str) -> None:
    batch = batch_for(objective)
    for config, equal in ((CONFIG, True), (replace(CONFIG, faults=AS_THE_ORIGINAL), False)):
        agent = learning_agent(config)
        agent.tokenizer.eval()
        found = [gradients(agent, objective, one)[1] for one in (batch, with_noise_as_padding(batch))]
        same = all(torch.allclose(each, found[1][name], rtol=1e-4, atol=1e-6) for name, each in found[0].items())
        assert same == equal
        if objective == "tokenizer":
            return  # its faults show in the codebook alone: below


def test_codes_follow_changes_into_padding_in_the_original_alone() -> None:
    batch = segments()
    for faults, equal in ((CONFIG.faults, True), (AS_THE_ORIGINAL, False)):
        books = []
        for one in (batch, with_noise_as_padding(batch)):
            agent = learning_agent(replace(CONFIG, faults=faults))
            agent.tokenizer.train()
            agent.loss("tokenizer", one, agent.counts("tokenizer", one), Moment(0))
            books.append(agent.tokenizer.quantizer.codebook)
            assert int(agent.tokenizer.quantizer.num_codebook_updates) == 1
        assert torch.allclose(*books) == equal


def test_the_target_follows_after_the_step_and_in_the_original_before_it() -> None:
    batch = batch_for("actor_critic")
    for faults, early in ((CONFIG.faults, False), (AS_THE_ORIGINAL, True)):
        agent = learning_agent(replace(CONFIG, faults=faults))
        both = agent.actor_critic
        with torch.no_grad():
            both.model.actor_linear.weight.add_(1.0)
        before = both.target_model.actor_linear.weight.clone()
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(0))
        assert torch.equal(before, both.target_model.actor_linear.weight) != early
        agent.after_step(["actor_critic"], 0, 1)
        moved = both.target_model.actor_linear.weight - before
        assert torch.allclose(moved, torch.full_like(moved, 0.005), atol=1e-6)


def test_a_segment_of_one_real_step_is_no_change_and_no_fault() -> None:
    batch = rows_of(segments(), slice(0, 2))
    alone = replace(batch, mask_BT=torch.zeros_like(batch.mask_BT).index_fill(1, torch.tensor([1]), True))
    agent = learning_agent()
    for objective in ("tokenizer", "world_model"):
        losses = agent.loss(objective, alone, agent.counts(objective, alone), Moment(0))
        assert bool(losses.total.isfinite())
    assert int(agent.tokenizer.quantizer.num_codebook_updates) == 0, "there was nothing to follow"


def test_it_sees_plays_dreams_and_tells_changes() -> None:
    agent = learning_agent(TWO_HOT)
    frames = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    seen_NS = agent.encode(frames)
    assert torch.equal(agent.decode(seen_NS), frames.float() / 255) and agent.vocabulary == 0
    assert isinstance(agent, TellsChanges)
    tokens, drawn, vocabulary = agent.retell(frames, torch.tensor([1, 2]), frames.flip(0))
    assert tokens.shape == (2, 4) and vocabulary == 16 and drawn.shape == frames.shape
    assert torch.equal((drawn * 255).round() / 255, drawn) and 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    policy = agent.policy(Acting(torch.zeros(2).long(), torch.ones(2, ACTIONS, dtype=torch.bool), temperature=1.0))
    policy.recall(1, frames, torch.tensor([0, 1]))
    assert policy.act(frames, [0, 1]).shape == (2,)
    dream = agent.dream(seed=1)
    here = dream.reset(Context(seen_NS[:, None], torch.zeros(2, 0).long(), torch.zeros(2).long()))
    assert torch.equal(here.tokens_NK, seen_NS)
    for _ in range(STEPS + 1):
        here = dream.step(torch.tensor([3, 1]))
    assert here.tokens_NK.dtype == torch.uint8 and dream.remembered.forgot in ("", "flush")
    assert {name: [each.shape for each in one] for name, one in agent.probe().items()}.keys() == agent.networks.keys()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda b: replace(b, frames_BTCHW=None, tokens_BTK=torch.zeros(5, 4, 4).long()), "tell no changes"),
        (lambda b: replace(b, frames_BTCHW=b.frames_BTCHW[..., :8]), r"do not fit: give uint8 \(\.\.\., 16, 16\)"),
        (lambda b: replace(b, rewards_BT=b.rewards_BT + torch.inf), "reward of inf cannot be learned"),
        (lambda b: replace(b, rewards_BT=b.rewards_BT + 1e9), "reward of 1e\\+09 is beyond what two-hot numbers tell"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_one_line(spoil, words: str) -> None:
    world = replace(TWO_HOT.world_model, beyond="error")
    agent, batch = learning_agent(replace(TWO_HOT, world_model=world)), spoil(segments())
    with pytest.raises(ValueError, match=words) as caught:
        agent.loss("world_model", batch, agent.counts("world_model", batch), Moment(0))
    assert "\n" not in str(caught.value)


def test_rewards_beyond_the_points_are_taken_to_them_where_the_recipe_says_so() -> None:
    agent, batch = learning_agent(TWO_HOT), segments()
    high, higher = (replace(batch, rewards_BT=torch.full_like(batch.rewards_BT, value)) for value in (5e8, 5e12))
    counts = agent.counts("world_model", high)
    totals = [float(agent.loss("world_model", one, counts, Moment(0)).total) for one in (high, higher)]
    assert totals[0] == totals[1] and torch.isfinite(torch.tensor(totals)).all()
    low = replace(batch, rewards_BT=torch.full_like(batch.rewards_BT, -5e12))
    assert bool(agent.loss("world_model", low, agent.counts("world_model", low), Moment(0)).total.isfinite())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: replace(c, tokenizer=replace(c.tokenizer, num_actions=3)), "tokenizer.num_actions is 3 but world"),
        (lambda c: replace(c, world_model=replace(c.world_model, width=32)), "they must be equal, change frame_cnn"),
        (lambda c: replace(c, weights=replace(c.weights, l1=0, l2=0, worst=0)), "no picture to learn from"),
        (lambda c: replace(c, actor_critic=replace(c.actor_critic, burn_in=9)), "leaves the world model's 4 steps"),
    ],
)
def test_networks_that_do_not_fit_each_other_are_refused(change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        change(CONFIG).require_fit(STEPS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens_per_frame": 9}, "9 tokens cannot share a grid of 4 x 4"),
        ({"resolution": 18}, r"which divides the resolution 18"),
        ({"revive_updates": -2}, "revive_updates -2 is impossible"),
    ],
)
def test_a_tokenizer_that_cannot_be_is_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG.tokenizer, **change)
