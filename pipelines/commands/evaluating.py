"""`worldline evaluate`: an experiment's checkpoint plays its games, as the recipe says or under rules of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import (
    ExperimentName,
    Games,
    Overrides,
    Remake,
    Storage,
    only_games,
    plan_of_experiment,
    profile_and_store,
)
from pipelines.environments.atari import roms
from pipelines.environments.atari.games import GAMES, rom_md5
from pipelines.environments.registry import options
from pipelines.errors import Members, UsageError
from pipelines.evaluation.player_settings import TUNED_FIELDS
from pipelines.graph.make import pointer, run_config, standing
from pipelines.graph.plan import Plan, Step
from pipelines.graph.rounds import Asked, changed, make_all
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.tune import TuneConfig
from pipelines.store.store import Store

PROTOCOL = "Rules: jowa, machado (also: sticky), atari100k, iris; iris+noise0.1 adds noise (default: the recipe's)."
PLANNER = "Who plays: greedy, beam, mcts, gumbel, rollouts or actor, and nobody beside it (default: the recipe's)."
SETTINGS = "Context and width tuned for each game: jowa_40m, jowa_70m or jowa_150m (default: the recipe's)."
ENVS = "Episodes of a game played at once, 0: all. Changes no score but by rounding."
TOGETHER = "Games planned in one batch, for GPUs and searches. Changes no score but by rounding."
ROM_DIR = "Folder with your ROMs of DQN-Replay's time; they are known by their md5 (default: ale-py's)."


def evaluate(
    experiment: ExperimentName,
    games: Games = None,
    protocol: Annotated[str, typer.Option(help=PROTOCOL)] = "",
    planner: Annotated[str, typer.Option(help=PLANNER)] = "",
    episodes: Annotated[int | None, typer.Option(help="Episodes of each game (default: the recipe's).")] = None,
    envs: Annotated[int, typer.Option(help=ENVS)] = 0,
    together: Annotated[int, typer.Option(help=TOGETHER)] = 1,
    settings: Annotated[str, typer.Option(help=SETTINGS)] = "",
    seed: Annotated[int | None, typer.Option(help="Of the emulators and all draws (default: the recipe's).")] = None,
    rom_dir: Annotated[Path | None, typer.Option(help=ROM_DIR)] = None,
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Let the checkpoint play, next to random play under the same protocol.

    Finished episodes are kept when this is stopped or killed; the same command plays what is missing. Several games
    share one process. Scores under other settings than the experiment's own stand beside those, under a longer name.
    --set takes the fields of the recipe's evaluate: evaluate.context, evaluate.epsilon, evaluate.beam_width,
    evaluate.beam_horizon, evaluate.max_steps, evaluate.random_episodes, evaluate.search.leaf,
    evaluate.search.simulations, evaluate.search.temperature, evaluate.search.choice, evaluate.search.sample,
    evaluate.search.gain=expected (a step brings the mean of signs; a rare reward is never the likeliest sign),
    evaluate.search.hold (steps for which rollouts hold the action that they try), evaluate.beside (who plays
    evaluate.beam_episodes). Agents with an actor are searched by --planner rollouts and evaluate.search.leaf=state,
    their critic. There are evaluate.compile (true: imagining is compiled, on GPUs) and evaluate.step (plays a
    checkpoint that training kept on the way).

    It takes tune's as well, to search first and report the best setting on other seeds: tune.contexts, tune.widths,
    tune.horizons, tune.leaves (lists of what to try), tune.episodes (of each), tune.max_steps, tune.seed. The search is
    an artefact of its own, tuned.

    Example: worldline evaluate demo --games all --protocol jowa --planner beam --episodes 16 --set evaluate.context=3

    Example: worldline evaluate demo --planner beam --set tune.contexts=1,2,4 --set tune.widths=2,4
    """
    if together < 1:
        raise UsageError(f"Evaluation with together {together} is impossible: it must be at least 1 game")
    profile, store = profile_and_store(storage, remake)
    found, plan = plan_of_experiment(experiment, profile)
    given = {"protocol": protocol, "planner": planner, "settings": settings, "episodes": episodes}
    assignments = ["evaluate.beam_episodes=0"] if planner else []
    if settings:  # a set stands for these, so the recipe's own give way
        assignments += [f"evaluate.{name}={getattr(EvaluateConfig, name)}" for name in TUNED_FIELDS]
    assignments += [f"evaluate.{name}={value}" for name, value in given.items() if value not in ("", None)]
    other = plan.but(changed(plan.recipe, [*assignments, *(changes or [])]))
    steps = [step for step in other.steps() if step.stage == "scores"]
    members, asks = Members(), []
    for step in only_games(steps, games, other):
        name = pointer(step, found)
        with members.each(name.partition("/")[2]):
            config = _config(other, step, seed, rom_dir, envs)
            if TuneConfig.STAGE in other.stages:
                config = _tuned(other, config, store)
            asks.append(_asked(name, step, config, plan, store))
    for report in make_all(asks, store, together, members):
        print(report, flush=True)
    members.end()


def _asked(name: str, step: Step, config: EvaluateConfig, plan: Plan, store: Store) -> Asked:
    """The evaluation under its name: the experiment's own, or a longer one for other settings."""
    if config.spec() != plan.config(step).spec():
        return Asked(config, f"{name}/{config.planner}-{config.spec().key[:8]}")
    return Asked(config, name, made=standing(plan, step, store))


def _config(plan: Plan, step: Step, seed: int | None, rom_dir: Path | None, envs: int) -> EvaluateConfig:
    """A step's config with what the recipe does not say. Raises UsageError for a ROM that the folder lacks."""
    config = plan.config(step)
    assert isinstance(config, EvaluateConfig)
    config = replace(config, envs=envs, seed=config.seed if seed is None else seed)
    if rom_dir is None:
        return config
    if config.game not in GAMES:
        options(config.game, str(rom_dir))  # says that it has none
    rom = roms.find(config.game, rom_dir)
    # Where ale-py ships the same bytes the scores are the same ones, and so is their key.
    md5 = "" if rom.md5 == rom_md5(config.game) else rom.md5
    return replace(config, rom_dir=str(rom_dir), rom_md5=md5)


def _tuned(plan: Plan, config: EvaluateConfig, store: Store) -> EvaluateConfig:
    """The evaluation with the settings that a search finds, which plays now if nobody made it before."""
    found = plan.config(Step(TuneConfig.STAGE, config.game))
    assert isinstance(found, TuneConfig)
    search = replace(found, rom_dir=config.rom_dir, rom_md5=config.rom_md5, envs=config.envs)
    config = replace(config, tuned=search.spec().ref)
    report = run_config(search, store)
    best = report.artefact.manifest.metrics["best"]
    axes = ("context",) if config.planner == "greedy" else ("context", "width", "horizon", "leaf")
    print(f"{report}\n  best: {', '.join(f'{axis} {best[axis]}' for axis in axes)}; all in its grid.csv")
    return config
