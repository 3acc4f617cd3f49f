import pytest
import torch

from models.api import Context, Policy, WorldModel
from models.blocks.transformer import KVCache
from models.jowa.model import Jowa
from models.jowa.policy import CompiledWorld, GrowingSpans, JowaPolicy, PowersOfTwo
from models.jowa.world import JowaWorld, context_values
from models.planning.beam import Beam, Greedy, plan
from models.planning.mcts import Mcts
from tests.models.jowa.test_world import make_context
from tests.models.planning.table_world import ACTIONS, GAMMA, TableWorld, context

GAMES = torch.tensor([0, 1, 2])
LEGAL = torch.zeros(3, 18, dtype=torch.bool)
LEGAL[0, [0, 5]] = LEGAL[1, [2, 3, 4]] = LEGAL[2, :] = True


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_compiled_world_decides_alike(model: Jowa, backend: str) -> None:
    """Trees that branch, and grow beyond their memory; on the slow backend with other rows and planners too."""
    torch._dynamo.reset()
    whole = backend != "eager"
    plain, compiled = JowaWorld(model), CompiledWorld(model, backend)
    legal_NA = torch.ones(3, 18, dtype=torch.bool)
    for rows in (3, 2) if whole else (3,):
        few = make_context(model, rows)
        for planner in (Beam(3, 2), Mcts(simulations=9, horizon=3)) if whole else (Beam(3, 2),):
            ours, theirs = (planner.plan(world, few, legal_NA[:rows], 0.99) for world in (compiled, plain))
            assert ours.tolist() == theirs.tolist()
    actions, parents = torch.arange(2 * rows), torch.zeros(2 * rows, dtype=torch.long)
    for again in range(2):
        here, expected = (world.step(actions, parents + again) for world in (compiled, plain))
        torch.testing.assert_close(here.values_NA, expected.values_NA, rtol=1e-4, atol=1e-4)
        assert torch.equal(here.tokens_NK, expected.tokens_NK) and torch.equal(here.rewards_N, expected.rewards_N)


def test_environments_are_planned_in_powers_of_two_and_cut_again() -> None:
    asked: list[list[int]] = []

    class Counting(Greedy):
        def plan(self, world: WorldModel, context: Context, legal_NA: torch.Tensor, gamma: float) -> torch.Tensor:
            asked.append(context.games_N.tolist())
            return super().plan(world, context, legal_NA, gamma)

    for rows, padded in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2, 2]), (5, [0, 1, 2, 3, 4, 4, 4, 4])):
        legal_NA = torch.ones(rows, ACTIONS, dtype=torch.bool)
        ours = PowersOfTwo(Counting()).plan(TableWorld(0), context(*range(rows)), legal_NA, GAMMA)
        assert torch.equal(ours, Greedy().plan(TableWorld(0), context(*range(rows)), legal_NA, GAMMA))
        assert asked[-1] == padded
    assert PowersOfTwo(Beam(2, 3)).horizon == 3


def test_only_spans_that_have_no_token_yet_are_read() -> None:
    cache = KVCache.empty((1, 1, 2, 8, 4), torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="No spans grow here"):
        GrowingSpans.first(cache)
    cache.branch(torch.tensor([[0, 0]]), 2)
    assert GrowingSpans.first(cache).slots_R.tolist() == [0, 2]
    cache.advance(1)
    with pytest.raises(ValueError, match="1 tokens of them were read already"):
        GrowingSpans.first(cache)


class PixelTokenizer:
    """Four pixels are the four tokens."""

    def encode_tokens(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.flatten(1).long()


def frames(seed: int) -> torch.Tensor:
    return torch.randint(20, (3, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def make(model: Jowa, **options: object) -> JowaPolicy:
    return JowaPolicy(model, PixelTokenizer(), GAMES, LEGAL, **options)  # type: ignore[arg-type]


def greedy(model: Jowa, row: int, history: list[torch.Tensor], actions: list[torch.Tensor]) -> int:
    """The best legal action of one environment alone."""
    tokens = torch.stack([one[row].flatten().long() for one in history])[None]
    before = torch.tensor([[int(one[row]) for one in actions]], dtype=torch.long)
    values = context_values(model, Context(tokens, before, GAMES[row : row + 1]))[0]
    return int(values.masked_fill(~LEGAL[row], -torch.inf).argmax())


def test_many_environments_play_as_each_would_alone_through_resets(model: Jowa) -> None:
    policy: Policy = make(model, context=3)
    seen: list[list[torch.Tensor]] = [[], [], []]
    done: list[list[torch.Tensor]] = [[], [], []]
    for step in range(7):
        if step in (2, 5):
            policy.begin([1])
            seen[1], done[1] = [], []
        now = frames(step)
        actions = policy.act(now)
        for row in range(3):
            seen[row] = [*seen[row], now][-3:]
            taken = done[row][len(done[row]) - len(seen[row]) + 1 :]
            assert int(actions[row]) == greedy(model, row, seen[row], taken), (step, row)
            done[row] = [*done[row], actions]


@pytest.mark.parametrize("steps", [2, 9])
def test_an_episode_that_is_recalled_goes_on_as_if_it_had_been_played(model: Jowa, steps: int) -> None:
    frames = torch.randint(0, 4, (steps + 1, 3, 1, 2, 2), generator=torch.Generator().manual_seed(steps)).byte()
    played, recalled = (JowaPolicy(model, PixelTokenizer(), GAMES, LEGAL, context=4) for _ in range(2))
    actions = torch.stack([played.act(frame) for frame in frames[:-1]])
    for row in range(3):
        recalled.recall(row, frames[:-1, row], actions[:, row])
    assert torch.equal(recalled.act(frames[-1]), played.act(frames[-1]))
    ours, theirs = (policy._history.context(range(3)) for policy in (recalled, played))
    assert torch.equal(ours.tokens_NCK, theirs.tokens_NCK) and torch.equal(ours.actions_NC, theirs.actions_NC)


def test_legal_actions_only_whatever_the_epsilon(model: Jowa) -> None:
    policy = make(model, epsilon=0.5, seed=3)
    for step in range(30):
        actions = policy.act(frames(step))
        assert LEGAL[torch.arange(3), actions].all()


def test_epsilon_explores_and_a_seed_repeats_it(model: Jowa) -> None:
    def play(**options: object) -> list[list[int]]:
        policy = make(model, **options)
        return [policy.act(frames(step)).tolist() for step in range(12)]

    assert play() == play(seed=9)  # greedy play needs no seed
    assert play(epsilon=1.0, seed=1) == play(epsilon=1.0, seed=1) != play(epsilon=1.0, seed=2)
    drawn = {actions[1] for actions in play(epsilon=1.0, seed=1)}
    assert drawn == {2, 3, 4}


def test_a_beam_is_planned_from_a_context_that_leaves_it_room(model: Jowa) -> None:
    beam = Beam(width=2, horizon=2)
    policy = make(model, context=5, planner=beam)
    assert policy.context == 3
    actions = policy.act(frames(0))
    context = Context(frames(0).flatten(1)[:, None].long(), torch.zeros(3, 0, dtype=torch.long), GAMES)
    assert torch.equal(actions, plan(JowaWorld(model), context, LEGAL, beam, model.config.gamma))
    for step in range(5):
        assert LEGAL[torch.arange(3), policy.act(frames(step))].all()


@pytest.mark.parametrize("options", [{}, {"planner": Beam(2, 2), "sample": True}], ids=["greedy", "sampled"])
def test_an_environment_plays_as_it_would_alone(model: Jowa, options: dict[str, object]) -> None:
    """Rows that stop being asked change nothing for the others, nor does a row that begins anew from its seed."""

    def play(asked: list[list[int]], restart: int = -1) -> dict[int, list[int]]:
        policy = make(model, context=3, epsilon=0.5, **options)
        policy.begin([0, 1, 2], [7, 8, 9])
        found: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for step, rows in enumerate(asked):
            if step == restart:
                policy.begin([2], [9])
                found[2] = []
            actions = policy.act(frames(step)[rows], rows)
            for row, action in zip(rows, actions.tolist(), strict=True):
                found[row].append(action)
        return found

    every = play([[0, 1, 2]] * 8)
    assert play([[1]] * 8)[1] == every[1]
    assert play([[2, 0]] * 3 + [[0]] * 5)[0] == every[0]
    assert play([[1, 2]] * 8, restart=0)[2] == every[2]
    assert play([[2]] * 8)[2] != play([[1]] * 8)[1]


@pytest.mark.parametrize("planner", [Beam(2, 2), Mcts(simulations=6)], ids=["beam", "mcts"])
def test_planners_play_legal_actions_and_sampled_dreams_follow_the_seed(model: Jowa, planner: Beam | Mcts) -> None:
    def play(**options: object) -> list[list[int]]:
        policy = make(model, planner=planner, **options)
        actions = [policy.act(frames(step)) for step in range(8)]
        assert all(LEGAL[torch.arange(3), one].all() for one in actions)
        return [one.tolist() for one in actions]

    assert play() == play(seed=4)  # the most likely needs no seed
    assert play(sample=True, seed=1) == play(sample=True, seed=1) != play(sample=True, seed=2)


@pytest.mark.slow
def test_a_compiled_policy_plays_alike_whoever_is_left(model: Jowa) -> None:
    torch._dynamo.reset()
    plain, compiled = (make(model, planner=Beam(2, 1), compiled=backend) for backend in ("", "eager"))
    for step, rows in enumerate([[0, 1, 2], [0, 2], [2]]):
        now = frames(step)[rows]
        assert compiled.act(now, rows).tolist() == plain.act(now, rows).tolist()


@pytest.mark.parametrize(
    "options",
    [{"context": 0}, {"context": 6}, {"epsilon": 1.5}, {"planner": Beam(1, 5)}],
    ids=["none", "long", "eps", "deep"],
)
def test_numbers_that_do_not_fit_are_refused(model: Jowa, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Context of|Epsilon"):
        make(model, **options)


def test_masks_and_tokens_that_do_not_fit_are_refused(model: Jowa) -> None:
    with pytest.raises(ValueError, match="at least one legal action"):
        JowaPolicy(model, PixelTokenizer(), GAMES, torch.zeros(3, 18, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"give \(3, 4\)"):
        make(model).act_on_tokens(torch.zeros(2, 4, dtype=torch.long))


@pytest.mark.parametrize("planner", [None, Beam(2, 1)])
def test_it_says_what_each_action_is_worth_to_it_before_any_search(model: Jowa, planner: Beam | None) -> None:
    policy = make(model, context=3, planner=planner)
    seen, done = [], []
    for step in range(5):
        seen, actions = [*seen, frames(step)][-3:], policy.act(frames(step), range(3))
        for row in (0, 2):
            tokens = torch.stack([one[row].flatten().long() for one in seen])[None]
            before = torch.tensor([[int(one[row]) for one in done[len(done) - len(seen) + 1 :]]], dtype=torch.long)
            found = policy.values(row)
            expected = context_values(model, Context(tokens, before, GAMES[row : row + 1]))[0]
            assert found.kind == "Q" and torch.allclose(found.values_A, expected, atol=1e-5)
        done.append(actions)
