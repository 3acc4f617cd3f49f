"""`worldline export hub` and `import hub`: a checkpoint goes out with its lineage, is verified where it comes in."""

import re
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.learning import register_released, without_learning
from pipelines.commands.options import ExperimentName, Storage, chosen_games, plan_of_experiment, profile_and_store
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError
from pipelines.graph.config_io import from_plain, override
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.stages.import_weights import ReleasedConfig
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.stage_config import plain
from pipelines.store.store import Store

WhoseGame = Annotated[
    str, typer.Option("--game", help="Whose checkpoint, where each game has its own (default: the only one).")
]


def export_hub(
    experiment: ExperimentName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write.")],
    game: WhoseGame = "",
    license: Annotated[str, typer.Option(help="Of the weights, as hubs name it: apache-2.0.")] = "unknown",
    push: Annotated[
        str, typer.Option(metavar="REPO", help="Send it to this repository of the hub too (default: send nothing).")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public (default: private).")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands there.")] = False,
    storage: Storage = None,
) -> None:
    """A checkpoint as model hubs take it: safetensors, a card with scores and intervals, and the whole lineage.

    'worldline import hub DIR' brings it into another home and verifies it there; 'sha256sum -c SHA256SUMS' does
    without Worldline. Manifests go out as they are: they name libraries, processors, and the paths of imported files.

    --push sends it with the token in HF_TOKEN, and needs pip install 'worldline\\[hub]'.

    Example: worldline export hub demo --to exports/demo --license apache-2.0 --push my-name/demo
    """
    from pipelines.tools.exports.export import export
    from pipelines.tools.exports.hub import HubExport, push_allowed, send

    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", license):
        raise UsageError(f"License '{license}' is no name that hubs know: write it as they do, such as apache-2.0")
    if push:
        push_allowed(push)
    profile, store = profile_and_store(storage)
    found, plan = plan_of_experiment(experiment, profile)
    checkpoint = store.open(playing_agent(plan, found.key, game))
    recipe = {name: plain(part) for name, part in without_learning(found.recipe).parts().items()}
    scores = _scores(store, found.key, checkpoint)
    to = to.absolute()
    what = HubExport(store, checkpoint, scores, found.name, recipe, to.name, license)
    print(export(checkpoint, what, to.parent, overwrite))
    if push:
        print(f"{to} -> {send(to, push, public)}")


def import_hub(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of 'worldline export hub', downloaded.")],
    name: Annotated[str, typer.Option(help="Of the experiment to make (default: as it was called).")] = "",
    games: Annotated[str, typer.Option(help="Games to play: Pong,Assault (default: those that it has).")] = "",
    storage: Storage = None,
) -> None:
    """Make an experiment of a checkpoint that another home exported; every file is verified first.

    Files are hashed against the manifests that they come from, and manifests against those that pin them. The tree of
    'worldline lineage' goes on through what lies elsewhere; the experiment evaluates like any other.

    Example: worldline import hub downloads/demo --name theirs
    """
    from pipelines.training.hub_folder import ABOUT, HubFolder

    folder = folder.absolute()
    found = HubFolder.open(folder)
    try:
        recipe: Recipe = from_plain(Recipe, found.about["recipe"])
        called = name or str(found.about["experiment"])
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise UsageError(
            f"{folder / ABOUT} holds no recipe of this version of Worldline ({error}): upgrade Worldline"
        ) from error
    if chosen := chosen_games(games or None):
        recipe = override(recipe, f"games={','.join(chosen)}")
    released = ReleasedConfig(folder_sha256=found.sha256, folder=str(folder), networks=found.networks())
    register_released(recipe, released, called, storage)


def playing_agent(plan: Plan, key: str, game: str) -> Ref:
    """The agent that plays: the same for all games, or that of one of them."""
    if not (playing := plan.games("scores")):
        raise UsageError(
            f"Experiment {key} plays nothing: take one that does; a world that learned from videos goes out by "
            "'worldline export checkpoint' without --game"
        )
    if game and (game := game_named(game)) not in playing:
        raise UsageError(f"Experiment {key} plays no {game}: it plays {', '.join(playing)}")
    found = {each: plan.agent_of(Step("scores", each)) for each in playing}
    if not game and len(set(found.values())) > 1:
        raise UsageError(f"Experiment {key} has a checkpoint for each game: add --game, one of {', '.join(found)}")
    return found[game or playing[0]]


def _scores(store: Store, key: str, checkpoint: Artefact) -> list[Artefact]:
    """Every evaluation of the experiment that this checkpoint played."""
    named = [ref for name, ref in store.pointers().items() if name.startswith(f"scores/{key}/")]
    found = [store.open(ref) for ref in dict.fromkeys(named) if store.holds(ref)]
    return [each for each in found if any(entry.ref == str(checkpoint.ref) for entry in each.manifest.parents)]
