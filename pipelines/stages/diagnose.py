"""Stage `diagnosed`: why an agent's search plays as it does; which of planner, world model or values fails.

In states of the agent's own play every action is looked ahead one step, in imagination and in the emulator, and both
next states are valued as a search values them (`evaluation/look_ahead.py`). Then the same seeds are played by the best
Q, by the best imagined step, by the best step of the emulator, which is what a perfect world model would gain, by the
search, and by what actions that are held bring in the emulator, of which no value is asked.
The artefact holds the numbers (states.npz, diagnosis.json), the pictures (diagnosis.png) and a page that says in words
what fails (diagnosis.html).
Run: `worldline diagnose EXPERIMENT --game G`.
"""

import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.family import Takes
from models.limits import Natural, Seed, Share, Size
from pipelines.environments.registry import options, protocol, roots
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import PlayConfig, SearchConfig, require_game, require_spaces
from pipelines.evaluation.verdict import Findings, findings
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, filled, parent
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.evaluation.look_ahead import Looker

UNREAD = ("planner", "epsilon", "max_steps", "envs")  # fields of play that change nothing here
ARRAYS, NUMBERS, PICTURE, PAGE = "states.npz", "diagnosis.json", "diagnosis.png", "diagnosis.html"


@dataclass(frozen=True)
class DiagnoseConfig(PlayConfig, StageConfig):
    """Look ahead in `states` of the agent's own play, every `every` steps, and play `steps` by each choice.

    `explore` is the chance of a random action while states are visited. Of the settings of play it reads protocol,
    precision, a ROM of yours and the search's leaf value; others would have no effect and are refused. `width` and
    `horizon` are the search's. Raises UsageError for these, and for a single episode, of which no error is known.
    """

    STAGE: ClassVar[str] = "diagnosed"
    VERB: ClassVar[str] = "diagnose"
    # 2: plays begin with random steps, are one episode, and the search's too; 3: ends; 4: rewards alone; 5: apart
    CODE: ClassVar[str] = "5"

    game: str = filled("game", "")
    agent: Ref | None = parent(makes="agent", part="agent")
    trajectories: Ref | None = parent(makes="trajectories", soft=True)  # how often the data shows each action
    context: Size = 4
    width: Size = 2
    horizon: Size = 2
    hold: Size = 4  # steps for which an action is tried where the emulator's rewards alone decide
    states: Size = 48
    every: Size = 8
    explore: Share = 0.15
    episodes: Size = 4  # that are played by each choice, each of its own seed
    steps: Natural = 200  # of each; 0 plays none, and says nothing about points
    seed: Seed = filled("seed", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        unread = {name: (getattr(self, name), getattr(PlayConfig(), name)) for name in UNREAD}
        unread |= {
            f"search.{name}": (value, default)
            for (name, value), default in zip(asdict(self.search).items(), asdict(SearchConfig()).values(), strict=True)
            if name != "leaf"
        }
        for name, (value, default) in unread.items():
            if value != default:
                raise UsageError(f"diagnose.{name} '{value}' is not read by a diagnosis: leave it at '{default}'")
        if self.steps and self.episodes < 2:
            raise UsageError(
                "diagnose.episodes 1 says nothing about the error of its points: give 2 or more, or set "
                "diagnose.steps=0 to compare no play"
            )

    @property
    def subject(self) -> str:
        return self.game


def run(config: DiagnoseConfig, store: Store) -> Report:
    """Diagnose one game, or find what was found."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: DiagnoseConfig, draft: Draft) -> None:
    import torch

    from pipelines.evaluation.diagnosis_page import draw, page
    from pipelines.evaluation.look_ahead import CHOICES, Looker, look, play_by, require_emulator, watched_game
    from pipelines.evaluation.session import selection_seeds
    from pipelines.training.checkpoints import load_agent
    from pipelines.training.device import pick, settle

    if config.agent is None:
        raise UsageError(f"A diagnosis of {config.game} needs an agent: name its artefact")
    rules, given = protocol(config.protocol), options(config.game, config.rom_dir, config.rom_md5)
    require_emulator(config.game, rules)
    device = pick(config.precision, leased=True)
    agent = load_agent(draft.parents[config.agent], device)
    device = settle(agent, device, config.precision)
    for network in agent.networks.values():
        network.eval()
    takes = Takes(agent.config.takes.frame, None, agent.limits.games)  # the steps are the looker's to check
    require_game(config.game, takes, rules, config.VERB)
    require_spaces(config.game, agent, rules)
    looker = Looker(agent, config.game, config.context, config.width, config.horizon, config.search.leaf, config.hold)
    seeds = selection_seeds(config.seed, config.episodes + 1)  # of which no score is ever reported
    with torch.inference_mode(), device.piece("diagnose"):
        with closing(watched_game(config.game, seeds[:1], rules, **given)) as game:
            looked = look(looker, game, config.states, config.every, config.explore)
        points = {}
        for name in CHOICES if config.steps else ():
            with closing(watched_game(config.game, seeds[1:], rules, **given)) as game:
                points[name] = play_by(looker, game, config.steps, name)
    found = findings(looked, points, float(agent.gamma), _names(looker), _shares(config, draft, looker))
    arrays: dict[str, Any] = asdict(looked)
    np.savez(draft.path(ARRAYS), **arrays)
    draft.path(NUMBERS).write_text(json.dumps(asdict(found), indent=1))
    draw(found, looked, draft.path(PICTURE))
    page(found, f"{config.game}, {config.agent}", draft.path(PICTURE), draft.path(PAGE))
    draft.metrics |= summary(found) | device.metrics()
    draft.roots.append(roots(config.game, rules, **given) | {"seeds": list(seeds)})
    draft.counts |= {"states": config.states, "steps": config.states * config.every + len(CHOICES) * config.steps}


def summary(found: Findings) -> dict[str, Any]:
    """The numbers of a manifest: those that are one number, and the verdict."""
    return {name: value for name, value in asdict(found).items() if isinstance(value, float | str)}


def _names(looker: "Looker") -> list[str]:
    """Of the game's actions."""
    from pipelines.environments.actions import own_actions

    return list(own_actions(looker.game))


def _shares(config: DiagnoseConfig, draft: Draft, looker: "Looker") -> NDArray[np.float64] | None:
    """How often (A,) the data shows each action; None where no trajectories are known."""
    if config.trajectories is None:
        return None
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories

    data = Trajectories(draft.parents[config.trajectories].source(FILE_NAME))
    counted = np.bincount(data.actions, minlength=len(looker.legal))
    return counted / counted.sum()


def of(evaluation: PlayConfig, **given: Any) -> DiagnoseConfig:
    """A diagnosis under an evaluation's rules, context and leaf value."""
    shared = {name: getattr(evaluation, name) for name in ("protocol", "precision", "rom_md5", "rom_dir")}
    leaf = replace(DiagnoseConfig().search, leaf=evaluation.search.leaf)
    return DiagnoseConfig(**{**shared, "search": leaf, **given})
