import itertools

import pytest
import torch

from models.api import Batch, Context, Imagined, Losses
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, masked_values, plan

ACTIONS = 3
GAMMA = 0.9
ALL = torch.ones(2, ACTIONS, dtype=torch.bool)


class TableWorld:
    """A world whose rewards and values are looked up by the path of actions taken, negative and distinct."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.paths: list[tuple[int, ...]] = []

    def look_up(self, path: tuple[int, ...]) -> tuple[float, torch.Tensor]:
        generator = torch.Generator().manual_seed(hash((self.seed, *path)) % 2**31)
        reward = float(torch.randint(-1, 2, (), generator=generator))
        return reward, torch.randn(ACTIONS, generator=generator) - 4

    def loss(self, batch: Batch) -> Losses:
        raise ValueError("This world is not trained")

    def reset(self, context: Context) -> Imagined:
        self.paths = [(1000 + row,) for row in range(len(context.games_N))]  # rows differ
        return self._here()

    def step(self, actions_N: torch.Tensor) -> Imagined:
        self.paths = [(*path, int(action)) for path, action in zip(self.paths, actions_N, strict=True)]
        return self._here()

    def gather(self, rows_M: torch.Tensor) -> None:
        self.paths = [self.paths[row] for row in rows_M]

    def _here(self) -> Imagined:
        rewards, values = zip(*(self.look_up(path) for path in self.paths), strict=True)
        rows = len(self.paths)
        return Imagined(
            torch.stack(values), torch.tensor(rewards), torch.zeros(rows).bool(), torch.zeros(rows, 1).long()
        )


def context(rows: int = 2) -> Context:
    return Context(torch.zeros(rows, 1, 1).long(), torch.zeros(rows, 0).long(), torch.zeros(rows).long())


def score(world: TableWorld, path: tuple[int, ...], legal: list[int]) -> float:
    """sum_i gamma^i r_i + gamma^depth max legal Q of a path whose first entry names the row."""
    rewards = [world.look_up(path[: end + 1])[0] for end in range(1, len(path))]
    tail = max(float(world.look_up(path)[1][action]) for action in legal)
    return sum(GAMMA**i * reward for i, reward in enumerate(rewards)) + GAMMA ** len(rewards) * tail


def search_slowly(world: TableWorld, row: int, beam: Beam, legal: list[int]) -> int:
    """The same search for one environment, path by path."""
    kept: list[tuple[int, ...]] = [(1000 + row,)]
    for _ in range(beam.horizon):
        children = []
        for path in kept:
            values = world.look_up(path)[1]
            best = sorted(legal, key=lambda action: -float(values[action]))[: beam.width]
            children += [(*path, action) for action in best]
        kept = sorted(children, key=lambda path: -score(world, path, legal))[: beam.width]
    return kept[0][1]


@pytest.mark.parametrize(("width", "horizon"), [(1, 1), (2, 1), (2, 2), (3, 3), (9, 2)])
def test_batched_search_equals_path_by_path_search(width: int, horizon: int) -> None:
    legal_NA = torch.tensor([[True, True, False], [True, True, True]])
    for seed in range(20):
        world, beam = TableWorld(seed), Beam(width, horizon)
        expected = [search_slowly(world, 0, beam, [0, 1]), search_slowly(world, 1, beam, [0, 1, 2])]
        assert plan(world, context(), legal_NA, beam, GAMMA).tolist() == expected, seed


def test_a_wide_beam_finds_the_best_of_all_paths() -> None:
    for seed in range(20):
        world = TableWorld(seed)
        paths = [(1000, *actions) for actions in itertools.product(range(ACTIONS), repeat=2)]
        best = max(paths, key=lambda path: score(world, path, [0, 1, 2]))
        assert plan(world, context(1), ALL[:1], Beam(ACTIONS**2, 2), GAMMA).tolist() == [best[1]]


def test_illegal_actions_are_never_played_though_all_values_are_negative() -> None:
    legal_NA = torch.tensor([[False, False, True], [False, True, True]])
    for seed in range(20):
        first, second = plan(TableWorld(seed), context(), legal_NA, Beam(3, 3), GAMMA).tolist()
        assert first == 2 and second in (1, 2)


def test_environments_planned_together_are_planned_as_alone(model: Jowa) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (4, 2, 4), generator=generator)
    many = Context(tokens, torch.tensor([[1], [2], [3], [4]]), torch.tensor([0, 1, 2, 0]))
    legal_NA = torch.rand(4, 18, generator=generator) < 0.4
    legal_NA[:, 0] = True
    together = plan(JowaWorld(model), many, legal_NA, Beam(3, 2), 0.99)
    for row in range(4):
        one = Context(tokens[row : row + 1], many.actions_NC[row : row + 1], many.games_N[row : row + 1])
        assert plan(JowaWorld(model), one, legal_NA[row : row + 1], Beam(3, 2), 0.99).tolist() == [int(together[row])]


def test_beams_and_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Beam(0, 2)
    with pytest.raises(ValueError, match="Legal actions"):
        plan(TableWorld(0), context(), ALL[:, :2], Beam(), GAMMA)
    with pytest.raises(ValueError, match="at least one legal action"):
        masked_values(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
