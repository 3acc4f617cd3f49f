"""Rollouts of agents with an actor: the plan is that of one path after another, whoever plays beside."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from models.api import Acting, Context
from models.delta_iris.agent import DeltaIrisAgent
from models.iris.agent import IrisAgent
from models.planning.rollouts import Rollouts
from models.practice.actor_critic import Judgement
from models.practice.draws import likeliest
from models.practice.played import PlayedAgent
from models.practice.search import JudgedWorld, RolloutPolicy
from models.rem.agent import RemAgent
from models.simulus.agent import SimulusAgent
from tests.models.delta_iris.test_agent import CONFIG as DELTA
from tests.models.iris.test_agent import CONFIG as IRIS
from tests.models.rem.small_rem import CONFIG as REM
from tests.models.simulus.small_simulus import CONFIG as SIMULUS

ROWS, CONTEXT = 3, 2
AGENTS: dict[str, tuple[type[Any], Any]] = {
    "iris": (IrisAgent, IRIS),
    "rem": (RemAgent, REM),
    "simulus": (SimulusAgent, SIMULUS),
    "delta_iris": (DeltaIrisAgent, DELTA),
}


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> PlayedAgent:
    """One of opinions, whose critic sets states apart."""
    kind, config = AGENTS[request.param]
    found: PlayedAgent = kind(config, seed=3)
    with torch.no_grad():
        for layer in (found._actor.actor_linear, found._actor.critic_linear):
            layer.weight.normal_(generator=torch.Generator().manual_seed(5))
    return found


def frames(agent: PlayedAgent, step: int) -> Tensor:
    height, width, channels = agent.config.frame
    drawn = torch.Generator().manual_seed(step)
    return torch.randint(256, (ROWS, channels, height, width), generator=drawn).byte()


def legal_of(agent: PlayedAgent) -> Tensor:
    """Two rows may do everything, the last one only what has an even number."""
    legal_NA = torch.ones(ROWS, agent.config.actor_critic.num_actions, dtype=torch.bool)
    legal_NA[-1, 1::2] = False
    return legal_NA


def policy(agent: PlayedAgent, planner: Rollouts, **settings: float) -> RolloutPolicy:
    found = agent.policy(Acting(torch.zeros(ROWS).long(), legal_of(agent), planner, CONTEXT, **settings))
    assert isinstance(found, RolloutPolicy)
    return found


def plan_slowly(
    agent: PlayedAgent, judged: Judgement, seen: Sequence[Tensor], done: Sequence[int], legal_A: Tensor, plan: Rollouts
) -> int:
    """One environment, path by path: seen are the newest frames' tokens (K,), done the actions between them."""

    def best(logits_A: Tensor, many: int) -> list[int]:
        return [int(a) for a in logits_A.masked_fill(~legal_A, -torch.inf).argsort(descending=True)][:many]

    actor, worths = agent._actor, {}
    for first in best(judged.logits_NA[0], min(plan.width, int(legal_A.sum()))):
        player, memory, action, worth, alive = agent.player(), judged.memory, first, 0.0, True
        player.follow(torch.stack(list(seen))[None], torch.tensor([list(done)], dtype=torch.long))
        for depth in range(plan.horizon):
            step = player.step(torch.tensor([action]), likeliest)
            assert step.tokens_NK is not None
            there = actor(agent.see(step.tokens_NK), actor.told(torch.tensor([action]), memory))
            worth += agent.gamma**depth * float(step.rewards_N) * alive
            alive, memory = alive and not bool(step.ends_N), there.memory
            action = first if depth + 1 < plan.hold else best(there.logits_NA[0], 1)[0]
        tail = float(there.values_N) if plan.leaf == "state" and alive else 0.0
        worths[first] = worth + agent.gamma**plan.horizon * tail
    return max(worths, key=lambda each: worths[each])


@pytest.mark.parametrize(
    "planner",
    [Rollouts(2, 1, "state"), Rollouts(9, 2, "state"), Rollouts(3, 3, "state", hold=2), Rollouts(3, 2, "none")],
    ids=str,
)
def test_many_environments_play_as_path_by_path_through_resets(agent: PlayedAgent, planner: Rollouts) -> None:
    player, legal_NA = policy(agent, planner), legal_of(agent)
    seen: list[list[Tensor]] = [[] for _ in range(ROWS)]
    done: list[list[int]] = [[] for _ in range(ROWS)]
    memories = [agent._actor.fresh(1) for _ in range(ROWS)]
    others = 0
    with torch.no_grad():
        for step in range(4):
            if step == 2:
                player.begin([1], [0])
                seen[1], done[1], memories[1] = [], [], agent._actor.fresh(1)
            tokens_NK = agent.encode(frames(agent, step))
            actions = player.act(frames(agent, step), range(ROWS)).tolist()
            for row in range(ROWS):
                seen[row] = [*seen[row], tokens_NK[row]][-CONTEXT:]
                judged = agent._actor(agent.see(tokens_NK[row : row + 1]), memories[row])
                between = done[row][len(done[row]) - len(seen[row]) + 1 :]
                assert actions[row] == plan_slowly(agent, judged, seen[row], between, legal_NA[row], planner)
                others += actions[row] != int(judged.logits_NA[0].masked_fill(~legal_NA[row], -torch.inf).argmax())
                done[row].append(actions[row])
                memories[row] = agent._actor.told(torch.tensor(actions[row : row + 1]), judged.memory)
    assert others or planner.leaf == "none", "rollouts choose what the actor would not"


def test_a_row_that_ended_brings_and_is_worth_nothing(agent: PlayedAgent) -> None:
    player = agent.player()
    step = player.step

    def ends(actions_N: Tensor, draw: Any, observe: bool = True) -> Any:
        found = step(actions_N, draw, observe)
        ended_N = torch.zeros(len(actions_N)).bool().index_fill(0, torch.tensor([1]), True)
        return type(found)(torch.ones(len(actions_N)), ended_N, found.tokens_NK)

    player.step = ends  # type: ignore[method-assign]
    world = JudgedWorld(player, agent._actor, agent.see)
    with torch.no_grad():
        tokens_NK = agent.encode(frames(agent, 0)[:1])
        context = Context(tokens_NK[:, None], torch.zeros(1, 0).long(), torch.zeros(1).long())
        world.stand(agent._actor(agent.see(tokens_NK), agent._actor.fresh(1)))
        assert world.reset(context).values_NA.exp().sum() == pytest.approx(1)
        first = world.step(torch.tensor([0, 1, 2]), torch.zeros(3).long())
        after = world.step(torch.tensor([0, 1, 2]))
    assert first.rewards_N.tolist() == [1, 1, 1] and after.rewards_N.tolist() == [1, 0, 1]
    for here in (first, after):
        assert here.states_N is not None and here.states_N[1] == 0 and (here.states_N[[0, 2]] != 0).all()


def test_an_episode_that_is_recalled_goes_on_as_if_it_had_been_played(agent: PlayedAgent) -> None:
    played, recalled = (policy(agent, Rollouts(9, 2, "state")) for _ in range(2))
    shown = [frames(agent, step) for step in range(agent.config.actor_critic.burn_in)]
    actions_TN = torch.stack([played.act(each, range(ROWS)) for each in shown])
    for row in range(ROWS):
        recalled.recall(row, torch.stack([each[row] for each in shown]), actions_TN[:, row])
    ours, theirs = (each._history.context(range(ROWS)) for each in (recalled, played))
    assert torch.equal(ours.tokens_NCK, theirs.tokens_NCK) and torch.equal(ours.actions_NC, theirs.actions_NC)
    if agent.tells_burn_in or agent.family.name not in (
        "rem",
        "simulus",
    ):  # an actor that recalls without actions remembers otherwise
        assert torch.equal(recalled.act(frames(agent, 9), range(ROWS)), played.act(frames(agent, 9), range(ROWS)))


def test_a_world_that_was_told_of_nobody_says_so(agent: PlayedAgent) -> None:
    world = JudgedWorld(agent.player(), agent._actor, agent.see)
    with pytest.raises(ValueError, match="call reset"):
        world.step(torch.zeros(1).long())
    with torch.no_grad():
        tokens_NK = agent.encode(frames(agent, 0)[:1])
    context = Context(tokens_NK[:, None], torch.zeros(1, 0).long(), torch.zeros(1).long())
    with pytest.raises(ValueError, match="call stand"):
        world.reset(context)
