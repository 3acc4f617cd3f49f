"""What the UI shows of an artefact: where it is, what it was made from, what it cost, how good it is, with pictures.

Small tables and thumbnails only: the event log keeps every byte of this for ever. Numbers are plain floats, which
Dagster plots over time.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image, ImageSequence

from pipelines.sources.source import FACTS
from pipelines.store.artefact import Artefact, Report

AGENT = "agent.json"  # what a checkpoint holds
FILES_SHOWN = 30  # a token array has thousands of chunks
LOGS_SHOWN = 60
PICTURE_BYTES = 40_000
PICTURE_WIDTH = 840  # the UI's window cuts off what is wider
PICTURES_SHOWN = 6
FILM_COLOURS = 32
COLOURS = 64  # plots and frames of Atari games have few
SIGHT = (
    "codes_used",
    "perplexity",
    "reconstruction_error",
    "mean_frame_error",
    "next_frame_error",
    "copy_last_error",
    "held_out_episodes",
)
# As they are listed; manifests sort by name.
PLAYERS = ("greedy", "beam", "mcts", "gumbel", "rollouts", "random", "behaviour")
IN_TABLES = ("sight/", "shares/")
SHARES = ("videos", "frames", "share", "mean_length", "motion", "success")  # of a set of videos, by task or class
RETURNS = ("mean", "std", "median", "iqm", "clipped_mean", "episodes", "mean_length")


def describe(report: Report, experiment: str = "") -> dict[str, dg.MetadataValue]:
    """All metadata of one materialisation. `result` is its one line, as the command line prints it.

    A checkpoint of an experiment says how it is watched and played inside.
    """
    artefact, manifest = report.artefact, report.artefact.manifest
    shown: dict[str, Any] = {"result": str(report), "skipped": report.skipped}
    if experiment and AGENT in artefact.names():
        shown["play"] = dg.MetadataValue.md(f"`worldline play {experiment}`")
    shown |= _tables(manifest.metrics)
    if FACTS in artefact.names():
        shown["evidence"] = _evidence(artefact.path(FACTS))
    shown |= {f"picture/{name}": picture(artefact.path(file)) for name, file in pictures(artefact.names()).items()}
    shown |= {f"count/{name}": int(value) for name, value in manifest.counts.items()}
    shown |= {
        name: value for name, value in flat(manifest.metrics).items() if not name.startswith(("sight/", "shares/"))
    }
    shown |= {
        "address": str(artefact.ref),
        "key": artefact.ref.key,
        "path": dg.MetadataValue.path(artefact.where),
        "bytes": manifest.total_bytes,
        "files": dg.MetadataValue.md(_files(artefact)),
        "parents": dg.MetadataValue.md("\n".join(f"- `{parent.ref}`" for parent in manifest.parents) or "none: a root"),
        "cost": dg.MetadataValue.md(table(("", "seconds and bytes"), [*manifest.cost.items()])),
        "manifest_sha256": artefact.digest,
        "git_commit": manifest.git_commit or "unknown",
        "created": manifest.created,
    }
    return {name: dg.MetadataValue.float(v) if isinstance(v, float) else v for name, v in shown.items()}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with four significant digits, from 10,000 on with separators."""
    lines = [header, ["---"] * len(header), *[[_cell(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested mappings by path: {"greedy": {"mean": 21}} is {"greedy/mean": 21.0}."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return found


def pictures(names: Sequence[str]) -> dict[str, str]:
    """Of an artefact's files, those that are shown, by their names there: its own, then its newest checkpoints'.

    Films are shown beside pictures; of each kind `PICTURES_SHOWN` at most.
    """
    found: dict[str, str] = {}
    for ending in (".png", ".gif"):
        files = (name for name in names if name.endswith(ending))
        ranked = sorted(files, key=lambda name: (name.count("/"), -_step(name), name))
        found |= {name.removesuffix(ending).removeprefix("checkpoints/"): name for name in ranked[:PICTURES_SHOWN]}
    return found


def _step(name: str) -> int:
    """The step of the checkpoint that a file belongs to; 0 of others."""
    found = re.match(r"checkpoints/step-(\d+)/", name)
    return int(found[1]) if found else 0


def picture(path: Path) -> dg.MetadataValue:
    """A picture or a film inside the text, so that it needs no server."""
    return dg.MetadataValue.md(f"![{path.stem}]({film_uri(path) if path.suffix == '.gif' else data_uri(path)})")


def film_uri(path: Path) -> str:
    """A film as a data URI of at most about 40 kB: every second picture, 32 colours, and smaller until it fits."""
    with Image.open(path) as opened:
        wait = int(opened.info.get("duration", 0))
        frames = [frame.convert("RGB") for frame in islice(ImageSequence.Iterator(opened), 0, None, 2)]
    frames = [frame.resize((frame.width // 2 or 1, frame.height // 2 or 1), Image.Resampling.BOX) for frame in frames]
    while len(raw := _gif(frames, 2 * wait)) > PICTURE_BYTES and min(frames[0].size) > 16:
        size = int(frames[0].width * 0.8), int(frames[0].height * 0.8)
        frames = [frame.resize(size, Image.Resampling.LANCZOS) for frame in frames]
    return f"data:image/gif;base64,{base64.b64encode(raw).decode()}"


def _gif(frames: Sequence[Image.Image], wait: int) -> bytes:
    """An endless film of so many milliseconds a picture, all in the colours of a few of them."""
    packed, height = io.BytesIO(), frames[0].height
    some = frames[:: -(-len(frames) // 8)]
    sheet = Image.new("RGB", (frames[0].width, height * len(some)))
    for place, frame in enumerate(some):
        sheet.paste(frame, (0, place * height))
    colours = sheet.quantize(FILM_COLOURS)
    first, *more = (frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames)
    first.save(packed, "GIF", save_all=True, append_images=more, duration=wait, loop=0, optimize=True)
    return packed.getvalue()


def data_uri(path: Path) -> str:
    """A picture as a data URI of at most about 40 kB: 64 colours, and smaller until it fits."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((PICTURE_WIDTH, picture.height), Image.Resampling.LANCZOS)
    while len(raw := _png(picture)) > PICTURE_BYTES and min(picture.size) > 16:
        picture = picture.resize((int(picture.width * 0.8), int(picture.height * 0.8)), Image.Resampling.LANCZOS)
    return f"data:image/png;base64,{base64.b64encode(raw).decode()}"


def _png(picture: Image.Image) -> bytes:
    packed = io.BytesIO()
    picture.quantize(COLOURS).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _evidence(path: Path) -> dg.MetadataValue:
    """What each log of a replay showed, a row per log."""
    rows = pd.read_parquet(path)
    more = f"\n\nand {len(rows) - LOGS_SHOWN:,} more" if len(rows) > LOGS_SHOWN else ""
    header = [name.replace("_", " ") for name in rows.columns]
    return dg.MetadataValue.md(table(header, rows.head(LOGS_SHOWN).astype(object).to_numpy().tolist()) + more)


def _tables(metrics: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """Sight of the training stages, returns of the scores, shares of videos; nothing where the metrics hold none."""
    found = {}
    if sight := _mappings(metrics.get("sight")):
        found["sight"] = _grid("game", SIGHT, sight)
    if shares := _mappings(metrics.get("shares")):
        found["shares"] = _grid("of", SHARES, shares)
    if returns := {name: row for name, row in _mappings(metrics).items() if name in PLAYERS}:
        found["returns"] = _grid(
            "player", RETURNS, dict(sorted(returns.items(), key=lambda item: PLAYERS.index(item[0])))
        )
    return found


def _grid(corner: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> dg.MetadataValue:
    """Rows of numbers by name; "-" is not measured."""
    used = [column for column in columns if any(column in row for row in rows.values())]
    body = [(name, *(row.get(column) for column in used)) for name, row in rows.items()]
    return dg.MetadataValue.md(table((corner, *(column.replace("_", " ") for column in used)), body))


def _mappings(value: Any) -> dict[str, Mapping[str, Any]]:
    return {name: row for name, row in value.items() if isinstance(row, Mapping)} if isinstance(value, Mapping) else {}


def _files(artefact: Artefact) -> str:
    entries = artefact.manifest.files
    rows = [(f"`{entry.path}`", entry.bytes, f"`{entry.sha256[:16]}`") for entry in entries[:FILES_SHOWN]]
    more = f"\n\nand {len(entries) - FILES_SHOWN:,} more" if len(entries) > FILES_SHOWN else ""
    return table(("file", "bytes", "sha256"), rows) + more


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
