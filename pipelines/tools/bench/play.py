"""How fast play is: agent steps a second in every mode, `worldline bench play [--model iris] [--threads 1] [--quick]`.

Networks have random weights and the sizes of a recipe: the demo's, JOWA-40M's or IRIS's. A step is what the page or a
film shows of it, decoded pictures and values included; encoding a film is not. Beginnings are left out. The figure is
the median step's; the slowest in twenty is beside it, since a picture that comes late is seen. On a machine that others
use, CPU seconds say what a free core would give.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median, quantiles
from typing import Any

import torch

from models.family import AgentConfig
from models.registry import family_of
from pipelines.environments.registry import protocol
from pipelines.errors import unknown
from pipelines.evaluation.player_settings import PlayerSettings, SearchConfig
from pipelines.play.mode import open_mode
from pipelines.play.source import PlaySource
from pipelines.recipes.demo import demo
from pipelines.recipes.iris import iris, networks
from pipelines.recipes.jowa import jowa_40m
from pipelines.stages.train import PretrainConfig

AIM = 15.0  # agent steps a second: the game's own
MODELS: dict[str, Callable[[], AgentConfig]] = {
    "demo": lambda: demo().of(PretrainConfig).networks,
    "40m": lambda: jowa_40m().of(PretrainConfig).networks,
    "iris": lambda: networks(iris()),
}
SEARCHES = {"beam": (2, 2), "mcts": (2, 2), "gumbel": (2, 2), "rollouts": (2, 2)}  # width and horizon


@dataclass(frozen=True)
class Speed:
    """Of one mode: steps a second by the median step, also by its CPU seconds, and by the slowest in twenty."""

    mode: str
    median: float
    cpu: float
    slow: float

    @property
    def reached(self) -> bool:
        """Whether a free core keeps the game's pace."""
        return self.cpu >= AIM


def run(model: str, threads: int, steps: int, game: str = "Breakout") -> list[Speed]:
    """Every mode, by every planner that the family has. Raises UsageError for an unknown model."""
    if model not in MODELS:
        raise unknown("model", model, MODELS, "'worldline bench play --help' explains them")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [_measured(name, mode, source, steps) for name, mode, source in _cases(MODELS[model](), game)]
    finally:
        torch.set_num_threads(before)


def _cases(config: AgentConfig, game: str) -> list[tuple[str, str, PlaySource]]:
    family = family_of(config)
    agent = family.build(config)
    for network in agent.networks.values():
        network.eval().requires_grad_(False)
    planners = family.planners
    settings = PlayerSettings(planners[0], 1, 0, context=2, epsilon=0.0, search=SearchConfig())
    rules = protocol("iris" if config.takes.frame == protocol("iris").frame else "sticky")
    source = PlaySource(game, rules, agent, settings)
    cases = [("you in the game", "game", source)]
    for planner in planners:
        width, horizon = SEARCHES.get(planner, (0, 0))
        own = replace(settings, planner=planner, width=width, horizon=horizon)
        cases.append((f"agent in the game, {planner}", "agent", replace(source, settings=own)))
    seeing = replace(source, reconstruction=True)
    return [
        *cases,
        (f"agent in the game, {planners[0]}, reconstruction", "agent", seeing),
        ("you in the world model", "dream", source),
        (f"agent in the world model, {planners[0]}", "dream-agent", source),
        ("model against game", "versus", source),
    ]


def _measured(name: str, mode_name: str, source: PlaySource, steps: int) -> Speed:
    mode = open_mode(mode_name, source)
    mode.reset()
    taken, spent = list[float](), list[float]()
    for _ in range(3):  # what is packed or allocated once
        mode.step(1)
    while len(taken) < steps:
        start, cpu = time.perf_counter(), time.process_time()
        shown = mode.step(1)
        if shown.action is not None:
            taken.append(time.perf_counter() - start)
            spent.append(time.process_time() - cpu)
    mode.close()
    return Speed(name, 1 / median(taken), 1 / median(spent), 1 / quantiles(taken, n=20)[-1])


def table(speeds: list[Speed]) -> str:
    """As Markdown."""
    lines = ["| mode | agent steps/s | by CPU seconds | slowest in twenty | 15 by CPU |", "|---|---|---|---|---|"]
    for each in speeds:
        figures = " | ".join(f"{figure:.1f}" for figure in (each.median, each.cpu, each.slow))
        lines.append(f"| {each.mode} | {figures} | {'yes' if each.reached else 'NO'} |")
    return "\n".join(lines)


def plain(speeds: list[Speed]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(each) | {"reached": each.reached} for each in speeds]
