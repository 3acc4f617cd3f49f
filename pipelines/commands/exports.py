"""`worldline export` and `import`: artefacts in the layouts that other tools read, and back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from models.registry import FAMILIES
from pipelines.commands.browser_page import export_browser
from pipelines.commands.dreamer_files import import_dreamer
from pipelines.commands.hub import WhoseGame, export_hub, import_hub, playing_agent
from pipelines.commands.iris_runs import (
    LpipsFrom,
    export_run,
    import_delta_iris,
    import_iris,
    import_rem,
    import_simulus,
)
from pipelines.commands.options import ExperimentName, Storage, artefact_named, plan_of_experiment, profile_and_store
from pipelines.errors import UsageError, unknown
from pipelines.graph.plan import Step

PANEL = "Look and tidy"
Source = Annotated[str, typer.Argument(metavar="REF", help="A name (trajectories/Pong) or a full address.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands there.")]
Length = Annotated[int | None, typer.Option(help="Steps of a segment (default 8).")]
Stride = Annotated[int | None, typer.Option(help="Steps from one segment to the next (default 4).")]
Padding = Annotated[str | None, typer.Option(help="Side that is padded: right (default) or left.")]
FORMATS = "jowa-h5, zarr, webdataset, trajectories, minari or episodes (default: what it is)."
WORLDS = ("imported_world", "video_pretrained")
EPISODES = ("trajectories", "imported_trajectories")
DEFAULT_CUT: dict[str, Any] = {"length": 8, "stride": 4, "padding": "right"}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Artefacts in the layouts that other tools read.", no_args_is_help=True)
    group.command()(trajectories)
    group.command()(segments)
    group.command()(checkpoint)
    group.command()(croissant)
    group.command("run")(export_run)
    group.command("hub")(export_hub)
    group.command("browser")(export_browser)
    app.add_typer(group, name="export", rich_help_panel=PANEL)
    back = typer.Typer(
        help="Data that lie in other tools' layouts, and checkpoints of other homes, as artefacts.\n\n"
        "Example: worldline import trajectories exports/Pong.zarr --game Pong",
        no_args_is_help=True,
    )
    back.command("trajectories")(import_trajectories)
    back.command("shards")(import_shards)
    back.command("iris")(import_iris)
    back.command("rem")(import_rem)
    back.command("simulus")(import_simulus)
    back.command("delta-iris")(import_delta_iris)
    back.command("dreamer")(import_dreamer)
    back.command("hub")(import_hub)
    app.add_typer(back, name="import", rich_help_panel=PANEL)


def trajectories(
    ref: Source,
    to: Annotated[str, typer.Option("--to", help="jowa-h5, zarr or webdataset.")],
    out: Annotated[Path, typer.Option(help="Folder; the game's file or folder is written into it.")],
    compress: Annotated[
        bool | None, typer.Option("--compress/--no-compress", help="gzip frames (default: webdataset only).")
    ] = None,
    length: Length = None,
    stride: Stride = None,
    padding: Padding = None,
    seed: Annotated[int | None, typer.Option(help="Order of webdataset's segments (default 0).")] = None,
    per_shard: Annotated[int | None, typer.Option(help="Segments in one tar (default 512).")] = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Episodes in JOWA's HDF5 layout or as sharded zarr; or their segments, shuffled, as webdataset tars.

    Every export is read back and compared bit for bit before it gets its name; NAME.worldline.json beside it says
    what it came from. Our readers: JowaTrajectories and ZarrTrajectories (pipelines/episodes), WebdatasetStream
    (pipelines/batches).

    Example: worldline export trajectories trajectories/Pong --to zarr --out exports
    """
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories
    from pipelines.tools.exports.export import Export, export
    from pipelines.tools.exports.jowa_h5 import JowaH5
    from pipelines.tools.exports.webdataset import Webdataset
    from pipelines.tools.exports.zarr_store import ZarrStore

    given = _given(length=length, stride=stride, padding=padding, seed=seed, per_shard=per_shard, compress=compress)
    known: dict[str, tuple[str, ...]] = {
        "jowa-h5": ("compress",),
        "zarr": (),
        "webdataset": ("length", "stride", "padding", "seed", "per_shard", "compress"),
    }
    if to not in known:
        raise unknown("format", to, known, "formats for trajectories")
    _refuse_others(given, known[to], to)
    artefact = _open(ref, EPISODES, storage)
    source = Trajectories(artefact.path(FILE_NAME))
    if to != "zarr" and not source.action_names:
        raise UsageError(f"An action of {source.game} is numbers, and {to} holds one by its number: export --to zarr")
    what: Export
    if to == "jowa-h5":
        what = JowaH5(source, **given)
    elif to == "zarr":
        what = ZarrStore(source)
    else:
        cut = {name: given.pop(name) for name in DEFAULT_CUT if name in given}
        what = Webdataset(source, _segmentation(source, cut), **given)
    print(export(artefact, what, out, overwrite))


def segments(
    ref: Source,
    to: Annotated[str, typer.Option("--to", help="csv or parquet.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    length: Length = None,
    stride: Stride = None,
    padding: Padding = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """The index of training windows as JOWA writes it: Episode index, Start index, End index, Environment.

    An end is its start + length, behind the episode's end where a window is padded.

    REF is of `segments`, written as it was cut; or of `trajectories`, cut now by --length, --stride and --padding.

    Example: worldline export segments segments/Pong --to csv --out Pong.csv
    """
    from pipelines.batches.segments import read_table
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories
    from pipelines.tools.exports.export import export
    from pipelines.tools.exports.segment_table import SegmentTable

    given = _given(length=length, stride=stride, padding=padding)
    artefact = _open(ref, ("segments", *EPISODES), storage)
    if artefact.ref.stage == "segments":
        _refuse_others(given, (), f"{artefact.ref}, which is cut already")
        index, cut = read_table(artefact.folder), {name: artefact.manifest.config[name] for name in DEFAULT_CUT}
    else:
        source = Trajectories(artefact.path(FILE_NAME))
        index, cut = _segmentation(source, given).table(), DEFAULT_CUT | given
    print(export(artefact, SegmentTable(index, artefact.ref.subject, to, out.name, cut), out.parent, overwrite))


def checkpoint(
    experiment: ExperimentName,
    to: Annotated[
        str, typer.Option("--to", help="jowa, iris, rem, simulus, delta_iris or dreamer: names its own code reads.")
    ],
    out: Annotated[Path, typer.Option(help="Folder; one named after the experiment is written into it.")],
    game: WhoseGame = "",
    lpips: LpipsFrom = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """What an experiment plays with, as its original's files: JOWA's tokenizer.pt and model.pt, PreLAR's variables.pt
    of the Dreamer family, last.pt of the others. Of one that watches videos and never plays, its world.

    'worldline import-jowa' and 'worldline import iris' read them back exactly; what they brought goes out with the bits
    and dtypes it came with. Masks and index buffers of IRIS are written anew. IRIS's own loader is strict and keeps
    LPIPS with the tokenizer: give --lpips a file that has those weights, such as any released checkpoint.

    Example: worldline export checkpoint pong-iris --to iris --lpips Pong.pt --out exports
    """
    from pipelines.tools.exports.export import export
    from pipelines.tools.exports.original_checkpoint import OriginalCheckpoint

    if to not in FAMILIES:
        raise unknown("format", to, tuple(FAMILIES), "formats for checkpoints")
    profile, store = profile_and_store(storage)
    found, plan = plan_of_experiment(experiment, profile)
    world = next((each for each in WORLDS if each in plan.stages), "")
    alone = world and not game and not plan.games("scores")
    artefact = store.open(plan.ref(Step(world)) if alone else playing_agent(plan, found.key, game))
    print(export(artefact, OriginalCheckpoint.of(artefact, found.key, to, lpips, f"--to {to}"), out, overwrite))


def croissant(
    ref: Source,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    url: Annotated[str, typer.Option(help="Where the artefact's files lie (default: beside the document).")] = "",
    license: Annotated[str, typer.Option(help="Of the data: a URL or a name (default: not stated).")] = "",
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Data described in Croissant (JSON-LD): every file with its sha256, columns of tables, what it was made from.

    REF is of trajectories, imported_trajectories, tokens, segments or replay. The files themselves stay where they are.

    Example: worldline export croissant segments/Pong --out exports/Pong.croissant.json
    """
    from pipelines.tools.exports.croissant import STAGES, Croissant
    from pipelines.tools.exports.export import export

    out = out.absolute()
    artefact = _open(ref, STAGES, storage)
    print(export(artefact, Croissant(artefact, out.name, url, license), out.parent, overwrite))


def import_trajectories(
    path: Annotated[Path, typer.Argument(help="An export, a data set of Minari, or episodes of your own.")],
    game: Annotated[str, typer.Option(help="The game whose episodes these are.")],
    form: Annotated[str, typer.Option("--format", help=FORMATS)] = "",
    storage: Storage = None,
) -> None:
    """Whole episodes from other files; experiments train on them as on drawn ones.

    Read are what 'worldline export trajectories' writes, JOWA's own h5, data sets of Minari, and npz or HDF5 files of
    your own (docs/import.md); and the trajectories.h5 of an artefact, such as what an agent played that practises in a
    world model. Screens of the emulator become 84x84 grey frames as in play here; rewards are clipped.
    The artefact says where it came from: path, sha256 of all files, and what they say of themselves. Only local files
    are read; a webdataset's episodes are put together again from its segments.

    Example: worldline import trajectories exports/Pong.zarr --game Pong
    """
    from pipelines.environments.actions import action_names
    from pipelines.environments.registry import game_named
    from pipelines.graph.make import give_names, run_config
    from pipelines.graph.plan import Step
    from pipelines.stages.import_trajectories import ImportConfig, content_of, format_of

    game, path = game_named(game), path.absolute()
    content, _ = content_of(path)
    config = ImportConfig(game=game, sha256=content, path=str(path), format=format_of(path, form))
    _, store = profile_and_store(storage)
    report = run_config(config, store)
    give_names(store, Step(ImportConfig.STAGE, game), report.artefact.ref, None)
    print(report)
    store.open(report.artefact.ref)  # what failed a blocking check is shown and not recommended
    numbers = not action_names(game)
    recipe = "dreamerv2 --set learn.collect.steps=0 --set learn.collect.first_steps=0" if numbers else "demo"
    print(
        f"Train on it: worldline experiment new NAME --recipe {recipe} --set games={game} --set source=imported "
        f"--set import.contents={game}:{content}"
    )


def import_shards(
    url: Annotated[
        str, typer.Argument(help="A webdataset folder: a path, or a URL such as gs://bucket/Pong.webdataset.")
    ],
    game: Annotated[str, typer.Option(help="The game whose segments these are.")],
    storage: Storage = None,
) -> None:
    """The list of a webdataset export's shards, so that experiments learn from them where they lie.

    The list alone is kept. It holds the sha256 of every shard, so that a checkpoint's lineage names what it learned
    from. Training fetches a shard when its turn comes; set loop.shards of its stages once the shards were moved.

    Example: worldline import shards gs://bucket/Pong.webdataset --game Pong
    """
    import hashlib

    from pipelines.batches.shards import ShardSet
    from pipelines.environments.registry import game_named
    from pipelines.graph.make import give_names, run_config
    from pipelines.graph.plan import Step
    from pipelines.stages.import_trajectories import ShardsConfig

    profile, store = profile_and_store(storage)
    export = ShardSet(url, profile)
    cut, sha256 = export.contents.cut, hashlib.sha256(export.raw).hexdigest()
    config = ShardsConfig((), game_named(game), sha256, cut.length, cut.stride, cut.padding, export.url)
    report = run_config(config, store)
    give_names(store, Step(ShardsConfig.STAGE, config.game), report.artefact.ref, None)
    print(report)
    print(
        f"Train on it: worldline experiment new NAME --recipe demo --set games={config.game} --set source=shards "
        f"--set shards.contents={config.game}:{config.sha256}"
        + "".join(f" --set segment.{name}={getattr(cut, name)}" for name in DEFAULT_CUT)
    )


def _open(ref: str, stages: tuple[str, ...], storage: str | None) -> Any:
    _, store = profile_and_store(storage)
    address = artefact_named(ref, store)
    if address.stage not in stages:
        raise UsageError(f"{address} is an artefact of '{address.stage}': name one of {' or '.join(stages)}")
    return store.open(address)


def _segmentation(source: Any, cut: dict[str, Any]) -> Any:
    from pipelines.batches.segments import Segmentation

    try:
        return Segmentation(source.episode_starts, **(DEFAULT_CUT | cut))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse_others(given: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"--{name.replace('_', '-')} says nothing to {where}: leave it out")
