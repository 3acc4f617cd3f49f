"""`worldline import dreamer`: what the code of PreLAR, ContextWM, APV or DreamerV2 left as an experiment."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from models.registry import family
from pipelines.commands.learning import register_released, registered
from pipelines.commands.options import Storage
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError
from pipelines.graph.config_io import override
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import recipe as named_recipe
from pipelines.stages.import_weights import ReleasedConfig, ReleasedWorldConfig
from pipelines.stages.learn import LearnConfig
from pipelines.stages.pretrain_videos import PretrainVideosConfig
from pipelines.training.training_config import require_actions

FAMILY = family("dreamer")
FILE = (
    "variables.pt, a whole agent's or a pre-trained world's state_dict, as torch saved it; or the folder in which "
    "pre-training left a file a network, such as encoder_variables.pt."
)
SET = "A number of the networks, such as rssm.deter=512 (default: the recipe's); may be repeated."


def import_dreamer(
    file: Annotated[Path, typer.Option(help=FILE)],
    recipe: Annotated[str, typer.Option(help="Whose networks these are: prelar, apv, contextwm, naive, dreamerv2 ...")],
    game: Annotated[
        str, typer.Option(help="The task that it plays: drawer-open (default: none, of a world alone).")
    ] = "",
    name: Annotated[str, typer.Option(help="Of the experiment to make (default: RECIPE-TASK).")] = "",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help=SET)] = None,
    storage: Storage = None,
) -> None:
    """Make an experiment of a checkpoint of PreLAR's code, or of ContextWM's own.

    The file is read as data, nothing in it is run. An agent evaluates like any other; a world that learned videos takes
    the place of the recipe's own, and its agent goes on from it by 'worldline materialize'. Names and shapes must be
    those of the recipe's networks, all of them: weights of another variant are refused, and told which it is. They are
    kept exactly, and go out under PreLAR's names, bit for bit, by 'worldline export checkpoint --to dreamer'. Filling
    of the bonus's queue and updates of the target critic are not in such files, and begin at 0.

    Example: worldline import dreamer --file variables.pt --recipe prelar --game drawer-open
    """
    from pipelines.training.weight_files import read_state_dict

    base, changed = named_recipe(recipe, [f"games={game_named(game)}"] if game else []), changes or []
    _require_family(base)
    learn, watched = base.template(LearnConfig.VERB), base.template(PretrainVideosConfig.VERB)
    if learn is not None:
        _require_task(base, game)
    called = name or "-".join([recipe, *([base.games[0]] if learn is not None else [])])
    alone = tuple(FAMILY.part_files.values())  # where the names of a world of videos begin
    if file.is_dir() or learn is None or (watched and all(each.startswith(alone) for each in read_state_dict(file))):
        _import_world(file, base, called, changed, storage)
        return
    networks = override(base.of(LearnConfig).networks, *changed)
    released = ReleasedConfig(file_sha256=_sha256(file), file=str(file.absolute()), networks=networks)
    register_released(base, released, called, storage)


def _import_world(file: Path, base: Recipe, name: str, changes: list[str], storage: str | None) -> None:
    """Of a file of all its networks, or of a folder of a file each."""
    if not isinstance(watched := base.template(PretrainVideosConfig.VERB), PretrainVideosConfig):
        raise UsageError(f"Recipe '{base.name}' learns no videos: take one that does, such as apv or prelar")
    networks = override(watched.world, *changes)
    if file.is_dir():
        there = [each for each in FAMILY.part_files if (file / each).is_file()]
        if not there:
            raise UsageError(f"{file} holds none of {', '.join(FAMILY.part_files)}: give pre-training's folder")
        parts = tuple(f"{each}:{_sha256(file / each)}" for each in there)
        world = ReleasedWorldConfig(parts=parts, folder=str(file.absolute()), world=networks)
    else:
        world = ReleasedWorldConfig(file_sha256=_sha256(file), file=str(file.absolute()), world=networks)
    recipe = base.but(videos=None, pretrain_videos=None)
    if isinstance(learn := base.template(LearnConfig.VERB), LearnConfig):
        recipe = recipe.but(learn=replace(learn, networks=override(learn.networks, *changes)))
    experiment = registered(recipe, world, name, storage)
    if learn is None:
        print(f"Experiment {experiment.key}: import it with --recipe prelar, apv or the like to let an agent go on")
    else:
        print(f"Experiment {experiment.key}: let an agent go on with 'worldline materialize {experiment.name}'")


def _require_family(base: Recipe) -> None:
    """Raises UsageError for a recipe of another family."""
    learn, watched = base.template(LearnConfig.VERB), base.template(PretrainVideosConfig.VERB)
    found = getattr(learn, "networks", None) or getattr(watched, "world", None)
    if found is None or found.family != FAMILY.name:
        raise UsageError(
            f"Recipe '{base.name}' is not of the family '{FAMILY.name}': take prelar, apv, contextwm, naive, "
            "dreamerv2, or one that 'worldline recipe list' shows beside them"
        )


def _require_task(base: Recipe, game: str) -> None:
    """Raises UsageError where no task is named, or one whose actions are others."""
    if not game:
        raise UsageError("Whose agent it is does not stand in the file: add --game, the task, such as drawer-open")
    require_actions(base.of(LearnConfig).networks, base.games[0])


def _sha256(file: Path) -> str:
    from pipelines.store.files import sha256_of

    try:
        return sha256_of(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): give a checkpoint's file") from error
