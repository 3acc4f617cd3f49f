"""Acting with IRIS: memory and draws of each environment are its own."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.api import Acting
from models.iris.agent import IrisAgent
from models.practice.policy import ActorPolicy
from tests.models.iris.test_agent import CONFIG
from tests.models.practice.learning import LEGAL, segments

FRAMES_NTCHW = segments().frames_BTCHW
assert FRAMES_NTCHW is not None


@pytest.fixture(scope="module")
def agent() -> IrisAgent:
    agent = IrisAgent(CONFIG, seed=3)
    with torch.no_grad():
        agent.actor_critic.actor_linear.weight.mul_(50)  # a policy of opinions
    return agent


def policy(agent: IrisAgent, rows: int = 5, legal: Sequence[int] = (0, 1, 0, 1, 0), **settings: float) -> ActorPolicy:
    return agent.policy(Acting(torch.zeros(rows).long(), LEGAL[list(legal[:rows])], **settings))


def play(player: ActorPolicy, rows: Sequence[int], steps: Sequence[int] = range(3)) -> Tensor:
    """Actions (steps, rows)."""
    assert FRAMES_NTCHW is not None
    return torch.stack([player.act(FRAMES_NTCHW[list(rows), step], rows) for step in steps])


def test_the_likeliest_legal_action_is_played(agent: IrisAgent) -> None:
    actions = play(policy(agent), range(5))
    legal_NA = LEGAL[[0, 1, 0, 1, 0]]
    assert bool(legal_NA[torch.arange(5), actions].all())
    assert torch.equal(actions, play(policy(agent), range(5)))


def test_it_sees_what_the_tokenizer_makes_of_frames_and_remembers(agent: IrisAgent) -> None:
    assert FRAMES_NTCHW is not None
    actor, memory = agent.actor_critic, agent.actor_critic.fresh(1)
    expected = []
    with torch.no_grad():
        for step in range(3):
            judged = actor(agent.decode(agent.encode(FRAMES_NTCHW[:1, step])), memory)
            memory = judged.memory
            expected.append(int(judged.logits_NA.argmax()))
    assert play(policy(agent, 1), [0])[:, 0].tolist() == expected


@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"epsilon": 0.5}, {"epsilon": 0.2, "temperature": 0.5}])
def test_an_environment_plays_alike_alone_and_among_others(agent: IrisAgent, settings: dict[str, float]) -> None:
    together, alone = policy(agent, **settings), policy(agent, 1, **settings)
    together.begin(range(5), [11, 12, 13, 14, 15])
    alone.begin([0], [11])
    assert torch.equal(play(together, range(5))[:, 0], play(alone, [0])[:, 0])
    other = policy(agent, 1, temperature=100.0)
    found = set()
    for seed in range(8):
        other.begin([0], [seed])
        found.add(tuple(play(other, [0])[:, 0].tolist()))
    assert len(found) > 1, "seeds matter"


def test_begin_forgets_the_episode_of_that_environment_alone(agent: IrisAgent) -> None:
    player = policy(agent)
    play(player, range(5))
    player.begin([2], [0])
    hidden = player._memory.hidden
    assert hidden.any(1).tolist() == [True, True, False, True, True]


def test_recall_stands_where_the_newest_frames_lead(agent: IrisAgent) -> None:
    """A burn-in of 2: what was before is forgotten, as in learning."""
    assert FRAMES_NTCHW is not None
    played, recalled = policy(agent, 1), policy(agent, 1)
    play(played, [0], steps=(1, 2))
    recalled.begin([0], [0])
    recalled.recall(0, FRAMES_NTCHW[0], torch.zeros(3).long())
    assert torch.allclose(played._memory.hidden, recalled._memory.hidden, atol=1e-6)
    recalled.begin([0], [0])
    recalled.recall(0, FRAMES_NTCHW[0, :0], torch.zeros(0).long())
    assert not recalled._memory.hidden.any()


@pytest.mark.parametrize(
    ("legal", "settings", "words"),
    [
        (LEGAL[:1, :4], {}, "Legal actions"),
        (LEGAL[:1] & False, {}, "at least one of 5"),
        (LEGAL[:1], {"epsilon": 1.5}, "Epsilon 1.5"),
        (LEGAL[:1], {"temperature": -1.0}, "temperature -1.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    agent: IrisAgent, legal: Tensor, settings: dict[str, float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        agent.policy(Acting(torch.zeros(1).long(), legal, **settings))


def test_it_says_what_it_thinks_of_every_action_and_acts_on_imagined_tokens_alike(agent: IrisAgent) -> None:
    assert FRAMES_NTCHW is not None
    seeing, dreaming = policy(agent, 2, (0, 1)), policy(agent, 2, (0, 1))
    for step in range(2):
        actions_N = seeing.act(FRAMES_NTCHW[:2, step], [0, 1])
        assert torch.equal(actions_N, dreaming.act_on_tokens(agent.encode(FRAMES_NTCHW[:2, step]), [0, 1]))
        for row in range(2):
            found = seeing.values(row)
            assert found.kind == "probability" and float(found.values_A.sum()) == pytest.approx(1)
            assert int(found.values_A.argmax()) == int(actions_N[row])
            assert torch.equal(found.values_A > 0, LEGAL[row])
            assert torch.equal(found.values_A, dreaming.values(row).values_A)


def test_probabilities_of_actions_that_it_does_not_know_are_0() -> None:
    known = replace(CONFIG, actions=(4, 1), world_model=replace(CONFIG.world_model, num_actions=2))
    known = replace(known, actor_critic=replace(CONFIG.actor_critic, num_actions=2))
    player = IrisAgent(known, seed=3).policy(Acting(torch.zeros(1).long(), LEGAL[:1]))
    assert FRAMES_NTCHW is not None
    player.act(FRAMES_NTCHW[:1, 0], [0])
    values_A = player.values(0).values_A
    assert values_A.shape == (5,) and (values_A[[0, 2, 3]] == 0).all() and (values_A[[1, 4]] > 0).all()
