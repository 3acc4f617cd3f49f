"""`worldline import iris`, `import rem`, `import simulus`, `import delta-iris` and `export run`: what the code of IRIS
or its kin left as an experiment, and a run as IRIS leaves one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.hub import WhoseGame, playing_agent
from pipelines.commands.learning import named_after, register_released
from pipelines.commands.options import ExperimentName, Storage, plan_of_experiment, profile_and_store
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.config_io import override
from pipelines.graph.recipe import Recipe
from pipelines.progress import say
from pipelines.recipes import delta_iris, iris, rem, simulus
from pipelines.stages.import_weights import ReleasedConfig
from pipelines.stages.learn import LearnConfig

CRAFTER = "Crafter"
NOT_TOLD = "A number that shapes do not tell, such as world_model.heads=8 (default: the paper's); may be repeated."
GROUPS = (
    "Those of before February 2024 have 32 under the same names, in the same shapes, and decode differently: if its "
    "frames look wrong, import it again with --set tokenizer.decoder_groups=32"
)
TrainedOn = Annotated[str, typer.Option(help="The game that it was trained on (default: the file's name).")]
NewName = Annotated[str, typer.Option(help="Of the experiment to make (default: the file's).")]
NotTold = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help=NOT_TOLD)]
LpipsFrom = Annotated[
    Path | None, typer.Option("--lpips", help="A checkpoint whose lpips.* weights go out too (default: left out).")
]


def import_iris(
    file: Annotated[Path, typer.Option(help="IRIS's state_dict, as torch saved it: last.pt, or a released Pong.pt.")],
    game: TrainedOn = "",
    name: NewName = "",
    changes: NotTold = None,
    storage: Storage = None,
) -> None:
    """Make an experiment of a checkpoint of IRIS; it evaluates like any other, under IRIS's own rules.

    The file is read as data, nothing in it is run. Sizes are read off its tensors; its actions are the game's own, in
    the game's order. Weights are kept exactly: float32, bfloat16, float16, and float64 that fits into float32. Masks
    and index buffers must be IRIS's and are written anew by 'worldline export checkpoint --to iris'; LPIPS weights are
    left out. Checkpoints of the IRIS thesis are told by their names: GPT-2's blocks (64 numbers a head), which go out
    under IRIS's names, neural circuits, and a tokenizer's critic.

    Example: worldline import iris --file Pong.pt
    """
    _import(file, game, name, changes, storage, iris.iris(), iris.released)


def import_rem(
    file: Annotated[Path, typer.Option(help="REM's state_dict, as torch saved it: last.pt.")],
    game: TrainedOn = "",
    name: NewName = "",
    changes: NotTold = None,
    storage: Storage = None,
) -> None:
    """Make an experiment of a checkpoint of REM, as 'worldline import iris' does of one of IRIS.

    Sizes, heads and the kind of the actor-critic are read off its tensors. A checkpoint of before February 2024 has a
    decoder of 32 norm groups in the same shapes and would decode differently: --set tokenizer.decoder_groups=32.

    Example: worldline import rem --file last.pt --game Pong
    """
    networks = _import(file, game, name, changes, storage, rem.rem(), rem.released)
    if not any("decoder_groups=" in change for change in changes or []):
        say(f"Its decoder is read with {networks.tokenizer.norm_groups} norm groups. {GROUPS}")


def import_simulus(
    file: Annotated[Path, typer.Option(help="Simulus's state_dict, as torch saved it: last.pt.")],
    game: TrainedOn = "",
    name: NewName = "",
    changes: NotTold = None,
    storage: Storage = None,
) -> None:
    """Make an experiment of a checkpoint of Simulus, as 'worldline import iris' does of one of IRIS.

    Sizes, heads, backbone (attention or RetNet) and quantizer are read off its tensors, FSQ's levels too.

    Example: worldline import simulus --file last.pt --game Pong
    """
    _import(file, game, name, changes, storage, simulus.simulus(), simulus.released, simulus.told)


def import_delta_iris(
    file: Annotated[Path, typer.Option(help="Delta-IRIS's state_dict, as torch saved it: last.pt.")],
    game: Annotated[str, typer.Option(help="Crafter, or the game of Atari that it was trained on.")] = CRAFTER,
    name: NewName = "",
    changes: NotTold = None,
    storage: Storage = None,
) -> None:
    """Make an experiment of a checkpoint of Delta-IRIS, such as the released one, which plays Crafter.

    The file is read as data, nothing in it is run. Sizes are read off its 434 tensors, whose names must be
    Delta-IRIS's; it has heads of 64 numbers. It goes out again, bit for bit, by 'worldline export checkpoint --to
    delta_iris'.

    Example: worldline import delta-iris --file last.pt
    """
    game = _game_of(file, game)
    recipe = delta_iris.delta_iris_crafter() if game == CRAFTER else delta_iris.delta_iris_atari()
    _import(file, game, name, changes, storage, recipe, delta_iris.released)


def _import(
    file: Path,
    game: str,
    name: str,
    changes: list[str] | None,
    storage: str | None,
    recipe: Recipe,
    sized: Callable[[Any, Mapping[str, tuple[int, ...]], str], Any],
    told: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda weights: (),
) -> Any:
    """The networks of a file, as its family's config. recipe: its family's own; sized(the recipe's networks, shapes by
    name, game) -> those of the file; told(weights) -> changes that numbers in the file tell, where shapes do not.
    """
    from pipelines.store.files import sha256_of
    from pipelines.training.weight_files import read_state_dict

    weights = read_state_dict(file)
    game = _game_of(file, game)
    recipe = recipe.but(games=(game,))
    try:
        given = override(recipe.of(LearnConfig).networks, *(changes or []), *told(weights))
        shapes = {each: tuple(tensor.shape) for each, tensor in weights.items()}
        networks = sized(given, shapes, game)
    except ValueError as error:
        raise WorldlineError(f"{file} cannot be imported: {error}") from error
    except UsageError as error:
        raise UsageError(f"{file} cannot be imported: {error}") from error
    if odd := [change for change in changes or [] if override(networks, change) != networks]:
        raise UsageError(f"{file} has other sizes than --set {odd[0]}: leave out what shapes tell")
    released = ReleasedConfig(file_sha256=sha256_of(file), file=str(file.absolute()), networks=networks)
    register_released(recipe, released, name or named_after(file), storage)
    return networks


def export_run(
    experiment: ExperimentName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write.")],
    game: WhoseGame = "",
    lpips: LpipsFrom = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands there.")] = False,
    storage: Storage = None,
) -> None:
    """One game's run of an IRIS as a folder that its own tools know: checkpoints, config, media and metrics.

    checkpoints/ holds last.pt, epoch.pt and what was played, an episode a file (dataset/0.pt); config/trainer.yaml our
    numbers under IRIS's names; media/reconstructions the sheets, media/episodes the newest episodes and films of what
    the agent imagines; metrics/ the curves. IRIS's loader is strict and keeps LPIPS with the tokenizer: give --lpips a
    file that has those weights. Optimisers are not kept with a finished agent.

    Example: worldline export run pong-iris --game Pong --lpips Pong.pt --to exports/pong-iris
    """
    from pipelines.tools.exports.export import export
    from pipelines.tools.exports.original_checkpoint import OriginalCheckpoint
    from pipelines.tools.exports.run_folder import CHECKPOINTS, RunFolder

    profile, store = profile_and_store(storage)
    found, plan = plan_of_experiment(experiment, profile)
    playing = plan.games("scores")
    if not game and len(playing) > 1:
        raise UsageError(f"Experiment {found.key} plays {', '.join(playing)}: add --game, a run folder is of one")
    artefact = store.open(playing_agent(plan, found.key, game))
    checkpoint = OriginalCheckpoint.of(artefact, CHECKPOINTS, "iris", lpips, "A run folder")
    to = to.absolute()
    what = RunFolder(artefact, checkpoint, game_named(game) if game else playing[0], to.name)
    print(export(artefact, what, to.parent, overwrite))


def _game_of(file: Path, game: str) -> str:
    """The game that was named, or that the file is named after."""
    try:
        return game_named(game or file.stem)
    except UsageError as error:
        if game:
            raise
        raise UsageError(f"{file} is not named after a game: say whose it is, such as --game Pong") from error
