"""`worldline play`: watch a checkpoint, play the game or inside its world model, and keep what was played."""

import filecmp
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import ExperimentName, Overrides, Storage, plan_of_experiment, profile_and_store
from pipelines.environments.actions import action_names
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.player_settings import PlayConfig
from pipelines.graph import table
from pipelines.graph.config_io import override
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import pointer, run_config
from pipelines.graph.plan import Plan, Step
from pipelines.play.mode import ABOUT, RECORDING, require_mode
from pipelines.progress import say
from pipelines.stages.evaluate import EvaluateConfig, roster
from pipelines.stages.record import RecordConfig, as_read, with_actions
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.store import Store

PANEL = "Look and tidy"
MODE = (
    f"What is played: {'; '.join(f'{name} ({about})' for name, about in ABOUT.items())}. Where an action is numbers: "
    "agent, dream-agent, episodes."
)
HOST = (
    "Where the page is served (default: 127.0.0.1); other than loopback, every visitor needs an address with a token."
)
STEPS = "Headless: agent steps to play, 15 a second of the game (default: 200)."
OUT = "Headless: copy what was recorded, film.mp4 or recording.npz with all that was shown (default: no copy)."
ACTIONS = (
    "Headless: text file of what you would press, a step after the other: NOOP UP FIRE, or the game's own numbers "
    "(default: no-op)."
)
PLANNER = "Of the agent: greedy, beam, mcts, gumbel, rollouts, actor (default: the recipe's)."
OF = "Which episodes --episode counts: recorded (those that the agent learned from) or evaluated (those scored)."


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(play)


def play(
    experiment: ExperimentName,
    game: Annotated[str, typer.Option(help="The game (default: the recipe's first).")] = "",
    headless: Annotated[bool, typer.Option("--headless", help="Without a screen: play, keep, end.")] = False,
    mode: Annotated[str, typer.Option(help=MODE)] = "dream",
    host: Annotated[str | None, typer.Option(help=HOST)] = None,
    port: Annotated[int | None, typer.Option(help="Of the page; 0 finds a free one (default: 8765).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    steps: Annotated[int | None, typer.Option(help=STEPS)] = None,
    out: Annotated[Path | None, typer.Option(help=OUT)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")] = False,
    actions: Annotated[Path | None, typer.Option(help=ACTIONS)] = None,
    seed: Annotated[int | None, typer.Option(help="Of the emulator and all draws (default: the recipe's).")] = None,
    episode: Annotated[int, typer.Option(help="A dream begins in this episode; -1: in the emulator.")] = -1,
    step: Annotated[int, typer.Option(help="At this step of it, or after so many no-ops.")] = 0,
    of: Annotated[str, typer.Option(help=OF)] = "recorded",
    planner: Annotated[str, typer.Option(help=PLANNER)] = "",
    protocol: Annotated[str, typer.Option(help="Rules of the game (default: the recipe's evaluation).")] = "",
    sample: Annotated[bool | None, typer.Option("--sample/--likeliest", help="Draw dreams, or not.")] = None,
    reconstruction: Annotated[bool, typer.Option("--reconstruction", help="Show the tokenizer's view too.")] = False,
    changes: Overrides = None,
    storage: Storage = None,
) -> None:
    """Watch a checkpoint play, play yourself, or play inside its world model, in a browser; keep it as a film.

    Serves one page on this machine until Ctrl-C; modes, keys, speed and recording are there ('?' lists the keys).
    --headless plays without a screen. A recording is an artefact, recordings/EXPERIMENT/GAME/MODE-..., with its lineage
    to the checkpoint, to where the dream begins and to the seed. The same command gives the same pictures. Where
    nothing is pressed, no-op is played. --set takes the fields of record: record.context (real steps that a dream
    begins with), record.epsilon, record.beam_width, record.beam_horizon, record.search.leaf, record.search.simulations,
    record.search.temperature, record.max_steps, record.precision (float32 unless set: of one row at a time, it is
    faster with small networks).

    Example: worldline play demo --game Boxing --mode agent --reconstruction

    Example: worldline play demo --game Boxing --headless --mode dream --steps 200 --out film.mp4

    Example: worldline play demo --game Boxing --headless --mode dream --episode 0 --step 40 --actions keys.txt

    Example: worldline play demo --headless --mode agent --planner beam --reconstruction
    """
    _require_out(out, overwrite)
    of_screen = {"--out": out, "--actions": actions, "--steps": steps, "--overwrite": overwrite or None}
    of_page = {"--host": host, "--port": port, "--no-browser": no_browser or None}
    _refuse_unread(of_page if headless else of_screen, headless, changes or [])
    _, store = profile_and_store(storage)
    given: dict[str, Any] = {"mode": mode, "steps": steps, "seed": seed, "episode": episode, "step": step, "of": of}
    given |= {"planner": planner or None, "protocol": protocol or None, "reconstruction": reconstruction}
    given["sample"] = {None: None, True: "yes", False: "no"}[sample]
    found, config = config_of(experiment, game, {k: v for k, v in given.items() if v is not None}, changes, storage)
    _require_keys(config, actions)
    if headless:
        _keep(found, config if actions is None else with_actions(config, actions), store, out, overwrite)
        return
    from pipelines.commands.play_screen import show  # the server is loaded where it serves
    from pipelines.play import server

    where = server.Port(server.HOST if host is None else host, server.PORT if port is None else port)
    show(found, config, store, where, browser=not no_browser)


def _require_keys(config: RecordConfig, actions: Path | None) -> None:
    """Raises UsageError for what a person would play, where no key says an action."""
    require_mode(config.mode, config.game)
    if actions is not None and not action_names(config.game):
        raise UsageError(f"--actions {actions}: an action of {config.game} is numbers, which no key says: leave it out")


def _require_out(out: Path | None, overwrite: bool) -> None:
    """Raises UsageError for a file of another kind, and where there is none to be overwritten."""
    if out is not None and out.suffix.lower() not in (".mp4", ".npz"):
        raise UsageError(f"--out {out} is neither a film.mp4 nor a recording.npz: give it one of these endings")
    if overwrite and out is None:
        raise UsageError("--overwrite replaces what stands at --out: name it, or leave --overwrite out")


def _refuse_unread(given: dict[str, Any], headless: bool, changes: list[str]) -> None:
    """Raises UsageError for an option that the other way of playing has."""
    if not headless and any(change.startswith("record.steps=") for change in changes):
        given = given | {"--set record.steps": True}
    for option, value in given.items():
        if value is not None and headless:
            raise UsageError(f"{option} is of the page, and --headless shows none: leave one of both out")
        if value is not None:
            raise UsageError(f"{option} is of play without a screen: say --headless, or record on the page")


def _keep(found: Experiment, config: RecordConfig, store: Store, out: Path | None, overwrite: bool) -> None:
    """Play without a screen, and say what was kept. Raises UsageError, before it plays, where `out` is another file."""
    config = as_read(config)
    if out is not None and not overwrite:
        _require_free(out, store.standing(config.spec().ref))
    report = run_config(config, store)
    print(report)
    print(f"Name         {give_name(found, config, store, report.artefact.ref)}")
    if out is not None:
        print(f"Written      {copy_out(report.artefact, out, overwrite)}")


def config_of(
    experiment: str, game: str, given: dict[str, Any], changes: list[str] | None, storage: str | None
) -> tuple[Experiment, RecordConfig]:
    """The experiment, and what is played of it. Raises UsageError for a game that it has not, or no checkpoint."""
    profile, store = profile_and_store(storage)
    found, plan = plan_of_experiment(experiment, profile)
    scored = _scored(plan, game)
    evaluation = plan.template(EvaluateConfig.VERB)
    assert isinstance(evaluation, EvaluateConfig) and scored.game is not None
    shared = {entry.name: getattr(evaluation, entry.name) for entry in fields(PlayConfig)}
    who = roster(replace(evaluation, game=scored.game, tuned=None, beam_episodes=0))[0]
    shared |= {"context": who.context, "beam_width": evaluation.beam_width, "beam_horizon": evaluation.beam_horizon}
    shared |= {"precision": "float32"}  # of a single row bf16 takes twice as long with small networks
    seeds = {"seed": given.pop("seed")} if "seed" in given else {}
    recipe = override(plan.recipe.but(**{RecordConfig.VERB: RecordConfig(**shared | given)}), *(changes or []))
    config = plan.but(recipe).config(Step(RecordConfig.STAGE, scored.game))
    assert isinstance(config, RecordConfig)
    if config.agent is None or not store.holds(config.agent):
        stage = config.agent.stage if config.agent else "a training"
        raise WorldlineError(
            f"Experiment '{found.name}' has no checkpoint of {scored.game} yet: make it first (worldline materialize "
            f"--experiment {found.name} --until {stage})"
        )
    recorded, evaluated = _episodes(plan, scored, store)
    return found, replace(config, **seeds, trajectories=recorded, scores=evaluated)


def _episodes(plan: Plan, scored: Step, store: Store) -> tuple[Ref | None, Ref | None]:
    """The trajectories and the scores that were made of the experiment's game; None where there are none."""
    names = [name for name in table.before(scored.stage, "trajectories") if name in plan.stages]
    recorded = [plan.made(Step(name, scored.game)) for name in names]
    scores = plan.made(scored)
    there = next((ref for ref in recorded if ref is not None and store.holds(ref)), None)
    return there, scores if scores is not None and store.holds(scores) else None


def _scored(plan: Plan, game: str) -> Step:
    """The evaluation of the game that was asked for, or of the first."""
    stage = EvaluateConfig.STAGE
    if stage not in plan.stages:
        raise UsageError(f"Recipe '{plan.recipe.name}' scores nothing, so that nobody knows how it plays: add evaluate")
    games = plan.games(stage)
    wanted = game_named(game) if game else games[0]
    if wanted not in games:
        raise UsageError(f"Game '{wanted}' is not in recipe '{plan.recipe.name}': it has {', '.join(games)}")
    return Step(stage, wanted)


def give_name(experiment: Experiment, config: RecordConfig, store: Store, made: Ref) -> str:
    """Give a recording its name, and return it."""
    whole = pointer(Step(config.STAGE, config.game), experiment)
    name = f"{whole}/{config.mode}-{made.key[:8]}"
    store.point(name, made)
    return name


def _copied(artefact: Artefact, out: Path) -> str:
    """The file of a recording that goes to `out`: the film or the arrays."""
    film = next(name for name in artefact.names() if name.startswith("film."))
    return RECORDING if out.suffix.lower() == ".npz" else film


def _require_free(out: Path, artefact: Artefact | None) -> None:
    """Raises UsageError where another file than the recording's own stands at `out`."""
    if not out.exists() or (artefact is not None and _same(out, artefact.path(_copied(artefact, out)))):
        return
    raise UsageError(f"{out} is there, and not this recording: add --overwrite or choose another --out")


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and filecmp.cmp(one, other, shallow=False)


def copy_out(artefact: Artefact, out: Path, overwrite: bool = False) -> Path:
    """Copy the film or the arrays; a film that lacks its codec keeps the ending that it has."""
    name = _copied(artefact, out)
    if Path(name).suffix not in (".npz", out.suffix.lower()):
        other, extra = out.with_suffix(Path(name).suffix), "pip install 'worldline[film]' brings one"
        say(f"No encoder of mp4 is here ({extra}): {other} is written in place of {out}")
        out = other
    if not overwrite:
        _require_free(out, artefact)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artefact.path(name), out)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written ({error.strerror}): give another place") from error
    return out
