"""`worldline videos`: sets of videos without actions, from which world models learn before any play."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import Storage, artefact_named, profile_and_store
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.stages.videos import VideosConfig

PANEL = "Stages, in order"


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(
        help="Videos without actions: what world models learn from before any play.\n\n"
        "A set is one HDF5 file of 64x64 frames, and comes from a folder of yours: archives as RLBench's are "
        "published (*.npz with `image`), or frames as Something-Something-V2 is prepared (FOLDER/VIDEO/000001.jpg and "
        "a list of 'video frames class').\n\n"
        "worldline videos import FOLDER, then worldline videos show videos --out sheet.png",
        no_args_is_help=True,
    )
    group.command("import")(import_videos)
    group.command()(show)
    app.add_typer(group, name="videos", rich_help_panel=PANEL)


def import_videos(
    path: Annotated[Path, typer.Argument(help="A folder of .npz archives, or of folders of frames.")],
    listing: Annotated[
        Path | None, typer.Option("--list", help="Of frames: the list (default: videos.txt in the folder).")
    ] = None,
    classes: Annotated[str, typer.Option(help="Of frames: only these classes, such as 93,94 (default: all).")] = "",
    min_frames: Annotated[int, typer.Option(min=1, help="Shorter videos are left out.")] = 25,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Of frames: leave out what the list names and is not there.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Bring a folder of videos into the store. It is known by its content: where it lies decides nothing.

    Every file is read twice: for the sha256 of all, and into the set. Nothing is unpickled, no name leaves the
    folder. The last line says what to set in a recipe, which then finds the set.

    Example: worldline videos import rlbench/train
    """
    from pipelines.episodes.videos.npz_videos import is_there
    from pipelines.graph.make import give_names, run_config
    from pipelines.graph.plan import Step
    from pipelines.stages.videos import VideosConfig, identified

    folder = path.absolute()
    config = identified(
        VideosConfig(
            source="npz" if is_there(folder) else "frames",
            min_frames=min_frames,
            classes=_numbers(classes),
            skip_missing=skip_missing,
            path=str(folder),
            listing=str(listing.absolute()) if listing else "",
        )
    )
    _, store = profile_and_store(storage)
    report = run_config(config, store)
    give_names(store, Step(VideosConfig.STAGE), report.artefact.ref, None)
    print(report)
    store.open(report.artefact.ref)  # what failed a blocking check is shown and not recommended
    print(f"Learn from it: {_settings(config)}, in a recipe that has videos")


def show(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A name (videos) or a full address.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("videos.png"),
    rows: Annotated[int, typer.Option(min=1, max=100, help="So many videos, evenly spaced over the set.")] = 12,
    storage: Storage = None,
) -> None:
    """A picture of some videos of a set: a row each, with name and length.

    Example: worldline videos show videos --rows 20 --out sheet.png
    """
    from pipelines.stages.videos import VideosConfig, write_sheet

    _, store = profile_and_store(storage)
    address = artefact_named(ref, store)
    if address.stage != VideosConfig.STAGE:
        raise UsageError(f"{address} is an artefact of '{address.stage}': name one of videos")
    artefact = store.open(address)
    shown = write_sheet(artefact.path("videos.h5"), artefact.path("videos.json"), out, rows, scale=2)
    print(f"{out}: {shown} of {artefact.manifest.counts['videos']:,} videos of {address}")


def _numbers(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := [word for word in words if not (word.isascii() and word.isdecimal() and len(word) < 10)]:
        raise UsageError(f"--classes has '{wrong[0][:20]}': give whole numbers, such as 93,94")
    return tuple(sorted({int(word) for word in words}))


def _settings(config: "VideosConfig") -> str:
    """What a recipe must set to have this very set."""
    told = {"source": config.source, "content": config.content, "min_frames": str(config.min_frames)}
    if config.classes:
        told["classes"] = ",".join(map(str, config.classes))
    if config.skip_missing:
        told["skip_missing"] = "true"
    return " ".join(f"--set videos.{name}={value}" for name, value in told.items())
