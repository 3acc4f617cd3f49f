"""The Dreamer family as an agent of the house: what its objectives read and move, and how it is played."""

from dataclasses import replace

import pytest
import torch

from models.api import Acting, Batch, Context, Learning, Moment
from models.dreamer.agent import DreamerAgent
from models.dreamer.config import BehaviourConfig, DreamerConfig
from models.dreamer.loss import world_loss
from models.dreamer.world_model import Segments
from models.iris.config import IrisConfig
from models.rssm.chance import Seeded
from tests.models.dreamer.small_dreamer import ACTIONS, CONFIGS, PRETRAINED, SIDE

ROWS, STEPS = 3, 6
NAMES = sorted(CONFIGS)
PRACTISING = [name for name in NAMES if CONFIGS[name].practises]


def agent_of(name: str, *objectives: str) -> DreamerAgent:
    agent = DreamerAgent(replace(CONFIGS[name], segment=STEPS))
    agent.start(Learning(0, torch.ones(0, 0)), objectives or ("world",))
    return agent


def batch(steps: int = STEPS + 1) -> Batch:
    draw = torch.Generator().manual_seed(1)
    mask_BT = torch.ones(ROWS, steps, dtype=torch.bool)
    mask_BT[0, 0] = False  # the episode begins behind its first column
    return Batch(
        actions_BT=torch.rand(ROWS, steps, ACTIONS, generator=draw) * 2 - 1,
        rewards_BT=torch.rand(ROWS, steps, generator=draw),
        ends_BT=torch.zeros(ROWS, steps, dtype=torch.bool),
        mask_BT=mask_BT,
        games_B=torch.zeros(ROWS, dtype=torch.long),
        frames_BTCHW=torch.randint(256, (ROWS, steps, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8),
    )


def given(name: str) -> Batch:
    if CONFIGS[name].practises:
        return batch()
    return replace(batch(STEPS), mask_BT=torch.ones(ROWS, STEPS, dtype=torch.bool))


def lost(agent: DreamerAgent, objective: str, data: Batch, step: int = 0) -> torch.Tensor:
    return agent.loss(objective, data, agent.counts(objective, data), Moment(step, 0, ROWS)).total


@pytest.mark.parametrize("name", NAMES)
def test_the_world_loses_what_its_terms_say_of_shifted_segments(name: str) -> None:
    agent, data = agent_of(name), given(name)
    torch.manual_seed(0)  # of dropout
    found = lost(agent, "world", data)
    assert data.frames_BTCHW is not None
    first_BT = torch.zeros(ROWS, STEPS, dtype=torch.bool)
    first_BT[:, 0] = True
    segments = Segments(data.frames_BTCHW, first_BT)
    if agent.config.practises:  # an action stands beside the frame that it led to
        segments = Segments(data.frames_BTCHW[:, 1:], first_BT, data.actions_BT[:, :-1], data.rewards_BT[:, :-1])
    fresh = DreamerAgent(agent.config)
    torch.manual_seed(0)
    want = world_loss(fresh.world_model, segments, Seeded(0, "world", Moment(0))).total(agent.config)
    assert torch.equal(found, want)


@pytest.mark.parametrize("name", PRACTISING)
def test_behaviour_moves_actor_and_critic_and_leaves_the_world_alone(name: str) -> None:
    agent = agent_of(name, "world", "behaviour")
    before = {key: each.clone() for key, each in agent.world_model.state_dict().items()}
    agent.world_model.train()
    lost(agent, "behaviour", batch()).backward()
    assert all(each.grad is None for each in agent.world_model.parameters()) and agent.world_model.training
    assert all(torch.equal(each, before[key]) for key, each in agent.world_model.state_dict().items())
    assert agent.behaviour is not None
    moved = {key for key, each in agent.behaviour.named_parameters() if each.grad is not None and each.grad.any()}
    assert {key.partition(".")[0] for key in moved} == {"actor", "critic"}
    assert all(each.requires_grad for each in agent.world_model.parameters())


def test_groups_learn_apart_and_what_videos_taught_waits() -> None:
    agent = agent_of("apv")
    kind, groups = agent.optimiser("world_model", 3e-4, 1e-6)
    assert kind is torch.optim.Adam and all(group["apart"] and group["eps"] == 1e-5 for group in groups)
    assert sorted(group["delay"] for group in groups) == [0, 2]
    assert sum(len(group["params"]) for group in groups) == len(list(agent.world_model.parameters()))
    assert [len(agent_of("dreamerv2").optimiser(name, 1e-4, 0)[1]) for name in ("world_model", "behaviour")] == [1, 2]


def test_the_target_follows_the_critic_as_the_config_says() -> None:
    agent = agent_of("dreamerv2", "behaviour")
    assert agent.behaviour is not None
    with torch.no_grad():
        agent.behaviour.critic.out.bias.fill_(3)
    agent.after_step(["world"], 0, 1)
    assert agent.behaviour.target.out.bias.item() == 0
    agent.after_step(["behaviour"], 0, 1)
    assert agent.behaviour.target.out.bias.item() == 3 and int(agent.behaviour.updates) == 1


@pytest.mark.parametrize("name", NAMES)
def test_what_it_sees_is_drawn_and_what_it_imagines_has_rewards(name: str) -> None:
    agent, data = DreamerAgent(CONFIGS[name]), batch()
    for network in agent.networks.values():
        network.eval()
    assert data.frames_BTCHW is not None
    seen_BTK = agent.encode(data.frames_BTCHW)
    assert seen_BTK.shape == (ROWS, STEPS + 1, agent.tokens_per_frame)
    assert torch.equal(agent.encode(data.frames_BTCHW[1]), seen_BTK[1]) or torch.allclose(
        agent.encode(data.frames_BTCHW[1]), seen_BTK[1], atol=1e-6
    )
    drawn = agent.decode(seen_BTK)
    assert drawn.shape == data.frames_BTCHW.shape and drawn.min() >= 0 and drawn.max() <= 1
    world = agent.world()
    there = world.reset(Context(seen_BTK, data.actions_BT[:, :-1], data.games_B))
    imagined = world.step(data.actions_BT[:, -1])
    assert there.values_NA.shape == (ROWS, 0) and not imagined.ends_N.any() and not there.rewards_N.any()
    assert agent.decode(imagined.tokens_NK).shape == (ROWS, 3, SIDE, SIDE)
    assert bool(imagined.rewards_N.any()) == agent.config.practises and world.remembered.steps == STEPS + 2
    with pytest.raises(ValueError, match="no step goes on from an earlier one"):
        world.step(data.actions_BT[:, -1], torch.zeros(ROWS, dtype=torch.long))
    context = Context(seen_BTK, data.actions_BT[:, :-1], data.games_B)
    first, again = (agent.dream(3).reset(context).tokens_NK for _ in range(2))
    assert torch.equal(first, again)


def test_a_policy_goes_on_from_what_it_recalls() -> None:
    agent = agent_of("prelar", "behaviour")
    frames = torch.randint(256, (4, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    acting = Acting(
        games_N=torch.zeros(2, dtype=torch.long), legal_NA=torch.ones(2, 0, dtype=torch.bool), temperature=1
    )
    played, recalled = agent.policy(acting), agent.policy(acting)
    for policy in (played, recalled):
        policy.begin([0, 1], [5, 6])
    taken = [played.act(frame[None], [1]) for frame in frames[:3]]
    # What it recalls draws states but no actions: only states that are certain would be the same.
    recalled.recall(1, frames[:3], torch.cat(taken))
    assert torch.equal(recalled._actions_NA[1], taken[-1][0]) and not recalled._first_N[1]
    assert played.act(frames[3:], [1]).shape == (1, ACTIONS)
    with pytest.raises(ValueError, match="no values to show"):
        played.values(0)


def test_temperature_and_chance_widen_what_is_played() -> None:
    agent = agent_of("dreamerv2", "behaviour")
    acting = Acting(games_N=torch.zeros(64, dtype=torch.long), legal_NA=torch.ones(64, 0, dtype=torch.bool))
    frames = torch.zeros(64, 3, SIDE, SIDE, dtype=torch.uint8)

    def played(**changes: float) -> torch.Tensor:
        policy = agent.policy(replace(acting, **changes))
        policy.begin(range(64), range(64))
        return policy.act(frames, range(64))

    mode = played(temperature=0.0)
    assert torch.allclose(played(temperature=1e-12), mode, atol=1e-4)
    near, far = ((played(temperature=wide) - mode).abs().mean() for wide in (0.01, 1.0))
    assert 0 < near < far / 3
    anything = played(epsilon=1.0)
    assert anything.abs().max() > 0.95 and abs(float(anything.mean())) < 0.2 and float(anything.std()) > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_originals_names_go_out_and_in_network_by_network(name: str) -> None:
    agent, other = DreamerAgent(CONFIGS[name], seed=1), DreamerAgent(CONFIGS[name], seed=2)
    whole = {key: each for network in agent.networks for key, each in agent.original_state_dict(network).items()}
    for network in agent.networks:
        assert agent.original_weights(network, whole).keys() <= whole.keys()
        other.load_original(network, whole)
        for ours, theirs in zip(agent.probe()[network], other.probe()[network], strict=True):
            assert ours.shape == theirs.shape
        same = zip(agent.networks[network].parameters(), other.networks[network].parameters(), strict=True)
        assert all(torch.equal(mine, yours) for mine, yours in same)
    strange = whole | {"wm.rssm.other": torch.zeros(1)}
    with pytest.raises(ValueError, match="0 more beyond"):
        other.load_original("world_model", strange)


def test_what_cannot_be_learned_is_one_line() -> None:
    for config, objectives, why in (
        (replace(CONFIGS["dreamerv2"], ends=True), ["world"], "set ends=false"),
        (CONFIGS["prelar_pretrain"], ["behaviour"], "has no behaviour"),
    ):
        with pytest.raises(ValueError, match=why):
            DreamerAgent(config).start(Learning(0, torch.ones(0, 0)), objectives)
    for name, data, why in (
        (
            "dreamerv2",
            replace(batch(), mask_BT=torch.zeros(ROWS, STEPS + 1, dtype=torch.bool)),
            "An episode is shorter",
        ),
        (
            "apv_pretrain",
            replace(batch(), mask_BT=torch.zeros(ROWS, STEPS + 1, dtype=torch.bool)),
            "A video is shorter",
        ),
        ("dreamerv2", replace(batch(), frames_BTCHW=None, tokens_BTK=torch.zeros(ROWS, STEPS + 1, 2)), "has tokens"),
    ):
        with pytest.raises(ValueError, match=why):
            agent_of(name).segments(data)
    with pytest.raises(ValueError, match="cannot act"):
        DreamerAgent(CONFIGS["apv_pretrain"]).policy(Acting(torch.zeros(1).long(), torch.ones(1, 0).bool()))
    with pytest.raises(ValueError, match="no setting 'world_weight'"):
        DreamerAgent(CONFIGS["apv_pretrain"]).reconfigure(world_weight=1)


def test_a_config_comes_back_from_its_plain_data() -> None:
    for config in (*CONFIGS.values(), DreamerConfig(behaviour=BehaviourConfig(horizon=4))):
        assert DreamerConfig.of(config.plain()) == config


def test_an_agent_goes_on_from_a_world_of_its_own_sizes_alone() -> None:
    for name, of in PRETRAINED.items():
        CONFIGS[name].require_world(CONFIGS[of])
    context = CONFIGS["contextwm"]
    replace(context, frames=replace(context.frames, blanked=0.5)).require_world(CONFIGS["contextwm_pretrain"])
    mine, other = CONFIGS["prelar"], CONFIGS["prelar_pretrain"]
    for changed, why in (
        (replace(other, rssm=replace(other.rssm, deter=9)), "rssm differs from pretrain_videos.rssm"),
        (replace(other, frames=replace(other.frames, layers=1)), "frames differs"),
        (CONFIGS["apv_pretrain"], "reads 3 numbers an action and that of pretrain_videos 5"),
        (IrisConfig(), "pretrain_videos is of the family 'iris': take one of 'dreamer'"),
    ):
        with pytest.raises(ValueError, match=why):
            mine.require_world(changed)
    with pytest.raises(ValueError, match="agents of the family 'iris' learn no videos"):
        IrisConfig().require_world(other)
