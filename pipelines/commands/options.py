"""Options that several commands share, and how they turn into a plan."""

import os
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from pipelines import home
from pipelines.environments.registry import GAMES, GROUPS, game_named
from pipelines.errors import Members, UsageError, WorldlineError, nearest
from pipelines.graph import experiment as experiments
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import plan_of
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe as named_recipe
from pipelines.store.profile import Profile
from pipelines.store.ref import Ref
from pipelines.store.store import Store

Games = Annotated[
    str | None,
    typer.Option("--games", help="Only these games: Pong,Freeway, or atari100k (default: all of the recipe's)."),
]
RecipeName = Annotated[str, typer.Option("--recipe", help="Whose settings to follow ('worldline recipe list').")]
DataRecipe = Annotated[
    str,
    typer.Option("--recipe", help="Whose settings to follow (default: demo, or jowa_40m with a bucket in --storage)."),
]
Agents = Annotated[str | None, typer.Option("--agents", help="Only these agents: 1,2 (default: the recipe's).")]
Mirror = Annotated[
    str, typer.Option("--mirror", help="What to keep on this machine of a remote bucket: all, small or none.")
]
SET = (
    "Change one field by its whole path, such as collect.steps=5000; may be repeated (default: all as in the recipe, "
    "'worldline recipe show NAME')."
)
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help=SET)]
SeedOption = Annotated[int | None, typer.Option("--seed", help="The same as --set seed=N (default: the recipe's).")]
Storage = Annotated[
    str | None,
    typer.Option("--storage", help="Storage profile, a name or a file (default: WORLDLINE_STORAGE or local)."),
]
RankCount = Annotated[int, typer.Option("--ranks", help="Processes that train together, one a GPU where there are.")]
Remake = Annotated[
    bool,
    typer.Option(
        "--remake",
        help="Make anew what is stale, damaged, or not what the recipe and today's code would make (default: keep it).",
    ),
]
ExperimentName = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its name or key.")]


def profile_and_store(storage: str | None, remake: bool = False) -> tuple[Profile, Store]:
    """The storage profile that was asked for, and its store, which makes anew what it would refuse with `remake`."""
    profile = home.current_profile(storage)
    return profile, home.open_store(profile, remake=remake)


def plan_of_recipe(
    name: str, overrides: list[str] | None, games: str | None, profile: Profile, agents: str | None = None
) -> Plan:
    """The plan of a recipe, for `games` and `agents` instead of its own where given."""
    if agents is not None and not agents.strip(" ,"):
        raise UsageError(
            f"--agents '{agents}' names no agent: give some, such as 1,2, or leave it out for the recipe's"
        )
    given = {"games": ",".join(chosen_games(games)), "agents": agents}
    changes = [*(overrides or []), *(f"{field}={value}" for field, value in given.items() if value)]
    return Plan(named_recipe(name, changes), profile.replay_root, profile)


def default_recipe(profile: Profile) -> str:
    """Whose settings to follow when nobody said: a profile that names a bucket wants that bucket read."""
    return "jowa_40m" if profile.replay_root else "demo"


def plan_of_experiment(name: str, profile: Profile) -> tuple[Experiment, Plan]:
    """A registered experiment and its plan."""
    found = experiments.find(experiment_folder(), name)
    return found, plan_of(found, home.open_store(profile))


def experiment_folder() -> Path:
    """Where experiments are frozen."""
    return home.home() / "experiments"


def print_once(what: object) -> None:
    """Print it on the first of the ranks that torchrun started by hand: one speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(what)


def artefact_named(name: str, store: Store) -> Ref:
    """The artefact of that name or address; experiments may go by their short names, games as people type them.

    Raises WorldlineError with the nearest name where there is none, UsageError where several are meant.
    """
    known = store.pointers(Members())
    keys = {each.name: each.key for each in experiments.registered(experiment_folder(), Members())}
    whole = "/".join(keys.get(part, part) for part in name.strip("/").split("/"))
    exact = [each for each in (name.strip("/"), whole) if each in known]
    alike = exact[:1] or [each for each in known if _plain(each) == _plain(name)]
    if len(alike) > 1:
        raise UsageError(f"'{name}' are {len(alike)} artefacts: give one of {', '.join(alike)}")
    try:
        return known[alike[0]] if alike else store.resolve(name)
    except WorldlineError as error:
        if near := nearest(whole, known):
            raise WorldlineError(f"{error}; did you mean '{near}'?") from error
        raise


def has_parts(name: str, wanted: str) -> bool:
    """Whether the parts of `wanted` stand in an artefact's name, one after the other: demo/Pong in scores/demo-1a/Pong.

    Any name has the parts of "".
    """
    parts, few = _plain(name), _plain(wanted) if wanted.strip("/") else []
    return any(parts[at : at + len(few)] == few for at in range(len(parts)))


def _plain(name: str) -> list[str]:
    """The parts of an artefact's name, without what people leave out of them."""
    return [re.sub(r"-[0-9a-f]{8}$", "", part).lower() for part in name.strip("/").split("/")]


def with_seed(changes: list[str] | None, seed: int | None) -> list[str]:
    """The changes of `--set`, and of `--seed` as one of them."""
    return [*(changes or []), *([] if seed is None else [f"seed={seed}"])]


def chosen_games(given: str | None) -> tuple[str, ...]:
    """The games that `--games` names, however they are spelled; none at all means all, which is said by leaving it out.

    Raises UsageError for an unknown game, and for an option that was given and names nothing.
    """
    if given is None or given.strip().lower() == "all":
        return ()
    names = [name.strip() for name in given.split(",") if name.strip()]
    found = tuple(dict.fromkeys(game for name in names for game in _games_like(name)))
    if not found:
        raise UsageError(f"--games '{given}' names no game: give some, such as Pong,Freeway, or leave it out for all")
    return found


def _games_like(name: str) -> list[str]:
    """The game or group of that name; all that a pattern such as Ms* fits; all from one to another (Dagster's way)."""
    if (group := GROUPS.get(name.lower())) is not None:
        return list(group)
    first, range_, last = name.partition("...")
    if range_:
        bounds = sorted(GAMES.index(game_named(each)) for each in (first, last))
        return list(GAMES[bounds[0] : bounds[1] + 1])
    if not set(name) & set("*?["):
        return [game_named(name)]
    if found := [game for game in GAMES if fnmatch(game.lower(), name.lower())]:
        return found
    raise UsageError(f"--games '{name}' fits no game: 'worldline games' lists all {len(GAMES)}")


def only_games(steps: list[Step], games: str | None, plan: Plan) -> list[Step]:
    """The steps of the named games. Raises UsageError for a game that the plan does not have."""
    wanted = chosen_games(games)
    for game in wanted:
        if game not in plan.every_game:
            raise UsageError(
                f"Game '{game}' is not in recipe '{plan.recipe.name}': it has {', '.join(plan.every_game)}"
            )
    return [step for step in steps if not wanted or step.game in wanted]
