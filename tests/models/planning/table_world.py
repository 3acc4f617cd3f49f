"""A world that is looked up: rewards and values of every path of actions, negative and distinct, and of its state."""

import torch

from models.api import Batch, Context, Imagined, Losses

ACTIONS = 3
GAMMA = 0.9
Path = tuple[int, ...]  # the environment's number, then actions


class TableWorld:
    """Counts the steps it was asked for; `draws` makes every imagined step differ from the last."""

    def __init__(self, seed: int, actions: int = ACTIONS, draws: bool = False) -> None:
        self.seed, self.actions, self.draws = seed, actions, draws
        self.trees: list[list[Path]] = []
        self.asked: list[Path] = []

    def look_up(self, path: Path) -> tuple[float, torch.Tensor]:
        generator = torch.Generator().manual_seed(hash((self.seed, *path)) % 2**31)
        reward = float(torch.randint(-1, 2, (), generator=generator))
        return reward, torch.randn(self.actions, generator=generator) - 4

    def loss(self, batch: Batch) -> Losses:
        raise ValueError("This world is not trained")

    def reset(self, context: Context) -> Imagined:
        self.trees = [[(1000 + int(game),)] for game in context.games_N]
        self.newest = [path for tree in self.trees for path in tree]
        return self._here()

    def step(self, actions_M: torch.Tensor, parents_M: torch.Tensor | None = None) -> Imagined:
        each = len(actions_M) // len(self.trees)
        if parents_M is not None:
            self.newest = [self.trees[row // each][parent] for row, parent in enumerate(parents_M.tolist())]
        draw = (len(self.asked),) if self.draws else ()
        self.newest = [(*path, action, *draw) for path, action in zip(self.newest, actions_M.tolist(), strict=True)]
        for row, path in enumerate(self.newest):
            self.trees[row // each].append(path)
        self.asked += self.newest
        return self._here()

    def _here(self) -> Imagined:
        rewards, values = zip(*(self.look_up(path) for path in self.newest), strict=True)
        tokens = torch.tensor([[hash(path) % 1000] for path in self.newest])
        states = torch.tensor([self.worth(path) for path in self.newest])
        means = torch.tensor([self.mean(path) for path in self.newest])
        ends = torch.zeros(len(rewards)).bool()
        return Imagined(torch.stack(values), torch.tensor(rewards), ends, tokens, states, means)

    def mean(self, path: Path) -> float:
        """What the step that led there brings in the mean."""
        return float(torch.rand((), generator=torch.Generator().manual_seed(hash((self.seed, path)) % 2**31)))

    def worth(self, path: Path) -> float:
        """What the state at the end of a path is said to be worth."""
        return float(torch.randn((), generator=torch.Generator().manual_seed(hash((path, self.seed)) % 2**31)))


def context(*environments: int) -> Context:
    rows = len(environments)
    return Context(torch.zeros(rows, 1, 1).long(), torch.zeros(rows, 0).long(), torch.tensor(environments))
