"""`worldline videos`: sets of videos without actions, from which world models learn before any play."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import Overrides, Remake, Storage, artefact_named, profile_and_store
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.stages.videos import VideosConfig

PANEL = "Stages, in order"


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(
        help="Videos without actions: what world models learn from before any play.\n\n"
        "A set is one HDF5 file of 64x64 frames. The project makes some itself, of Meta-world's scripted experts; or "
        "they come from a folder of yours: archives as RLBench's are published (*.npz with `image`), or frames as "
        "Something-Something-V2 is prepared (FOLDER/VIDEO/000001.jpg and a list of 'video frames class'), which "
        "'worldline videos prepare' makes of video files.\n\n"
        "worldline videos make, or worldline videos import FOLDER, then worldline videos show videos",
        no_args_is_help=True,
    )
    group.command()(make)
    group.command("import")(import_videos)
    group.command()(prepare)
    group.command()(show)
    app.add_typer(group, name="videos", rich_help_panel=PANEL)


def make(
    recipe: Annotated[str, typer.Option("--recipe", help="Whose settings to follow (default: the stage's own).")] = "",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Let Meta-world's scripted experts act before a camera, and keep what it sees.

    Without a recipe that is 20 episodes of 44 tasks from two cameras, of which no task is one that agents are judged
    by; a killed run goes on with the videos that it had not finished. What to play is said by --set:

    videos.tasks (names, or metaworld_apv for the six of the benchmark), videos.cameras, videos.episodes (of each)

    videos.noise_from, videos.noise_to (what is added to actions, a standard deviation drawn for each video)

    videos.after_success, videos.limit (frames), videos.protocol (metaworld draws shadows and is slower), videos.seed

    videos.workers (processes; the set does not depend on it), videos.most_bytes (of all frames, unpacked)

    Example: worldline videos make --set videos.tasks=door-open,push --set videos.episodes=2
    """
    from pipelines.environments.registry import GAMES
    from pipelines.graph.config_io import override
    from pipelines.graph.make import make as made
    from pipelines.graph.plan import Plan, Step
    from pipelines.graph.recipe import Recipe
    from pipelines.recipes.registry import recipe as named_recipe
    from pipelines.stages.videos import VideosConfig

    plain = Recipe("videos", games=GAMES[:1], stages=(VideosConfig(),))
    chosen = named_recipe(recipe, changes or []) if recipe else override(plain, *(changes or []))
    plan, step = Plan(chosen), Step(VideosConfig.STAGE)
    plan.config(step).check_frozen(plan)
    _, store = profile_and_store(storage, remake)
    report = made(plan, step, store)
    print(report)
    store.open(report.artefact.ref)
    print(f"Look at it: worldline videos show {report.artefact.ref}")


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


def prepare(
    source: Annotated[Path, typer.Option("--from", help="A folder of video files; folders below it are read too.")],
    to: Annotated[Path, typer.Option("--to", help="A folder for the frames and their list.")],
    size: Annotated[int, typer.Option(min=8, max=1024, help="Pixels of a frame, in both directions.")] = 64,
    labels: Annotated[
        Path | None, typer.Option(help="A file of lines 'video class': only these (default: all, of class 0).")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Videos that are decoded at a time (0: one a core).")] = 0,
) -> None:
    """Extract the frames of video files as JPEGs of 64x64, squeezed, and write the list of them.

    A killed run goes on with the videos that are missing. What cannot be decoded is named and left out. The folder can
    then be imported; it can go once it was.

    Example: worldline videos prepare --from 20bn-something-something-v2 --to frames-64
    """
    import os

    from pipelines.episodes.videos import prepare as making
    from pipelines.episodes.videos.frame_folders import read_labels
    from pipelines.progress import say, track

    wanted = read_labels(labels) if labels else None
    found, bad = making.videos_below(source, wanted)
    with track(f"Prepare {source}", len(found), "videos") as advance:
        done = making.prepare(found, to, size, wanted, workers or os.cpu_count() or 1, advance)
    bad |= done.bad
    for name, why in bad.items():
        say(f"Left out: {name}, {why}")
    left_out = f", {len(bad):,} are left out" if bad else ""
    print(f"{done.listing} names {done.videos:,} videos of {done.frames:,} frames{left_out}")
    print(f"Bring them into the store: worldline videos import {to}")


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
