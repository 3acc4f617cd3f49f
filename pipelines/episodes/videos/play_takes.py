"""Takes of scripted experts, played side by side, each kept as soon as it is finished: a killed run goes on there.

With one worker they are played here; with more, each of so many processes plays a share (`main`). Which process played
a take changes nothing in it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from pipelines import process
from pipelines.episodes.videos.scripted import ENDING, Play, Studio, Take, keep, kept
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import Advance

POLL_SECONDS = 0.2
ONE_THREAD = "LP_NUM_THREADS"  # of Mesa, 0: a process that draws on the processor takes no threads beside the others


def play_all(
    takes: Sequence[Take], play: Play, folder: Path, workers: int, advance: Advance, count: Callable[[int], None]
) -> None:
    """Play what is not there yet, into `folder`. `count` is told of every finished take's frames.

    Raises what `count` raises, WorldlineError where a process fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = []
    for take in takes:
        if (found := kept(folder, play, take)) is None:
            (folder / f"{take.name}{ENDING}").unlink(missing_ok=True)  # damaged, or of another library
            left.append(take)
        else:
            count(found[0]["frames"])
            advance(1, held=True)
    if not left:
        return
    left.sort(key=lambda take: (take.task, take.camera))  # those of one task and camera share an environment
    if min(workers, len(left)) == 1:
        _play_here(left, play, folder, advance, count)
    else:
        _play_beside(left, play, folder, min(workers, len(left)), advance, count)


def _play_here(takes: Sequence[Take], play: Play, folder: Path, advance: Advance, count: Callable[[int], None]) -> None:
    with Studio(play) as studio:
        for take in takes:
            frames, facts = studio.play(take)
            keep(folder, play, frames, facts)
            count(len(frames))
            advance(1, note=take.task)


def _play_beside(
    takes: Sequence[Take], play: Play, folder: Path, workers: int, advance: Advance, count: Callable[[int], None]
) -> None:
    """Each process plays takes that lie together, which share environments; what it says goes into a file."""
    bounds = [len(takes) * number // workers for number in range(workers + 1)]
    waiting = {f"{take.name}{ENDING}": take for take in takes}
    children: list[tuple[subprocess.Popen[bytes], Path]] = []
    around = {ONE_THREAD: "0", **os.environ, **process.environment()}
    try:
        for number, (start, stop) in enumerate(pairwise(bounds)):
            asked, said = folder / f"share-{number}.json", folder / f"share-{number}.txt"
            share = [asdict(take) for take in takes[start:stop]]
            asked.write_text(json.dumps({"folder": str(folder), "play": asdict(play), "takes": share}))
            with said.open("wb") as out:
                line = process.command(__name__, str(asked))
                child = subprocess.Popen(line, env=around, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
                children.append((child, said))
        while waiting:
            ended = [child.poll() is not None for child, _ in children]
            for name in sorted({path.name for path in folder.iterdir()} & waiting.keys()):
                take = waiting.pop(name)
                if (found := kept(folder, play, take)) is None:
                    raise WorldlineError(f"{folder / name} is damaged: check the disk and run the same command again")
                count(found[0]["frames"])
                advance(1, note=take.task)
            _require_alive(children)
            if all(ended) and waiting:
                raise WorldlineError(f"{next(iter(waiting.values())).name} was not played: run the same command again")
            time.sleep(POLL_SECONDS)
    finally:
        for child, _ in children:
            child.terminate()
        for child, _ in children:
            child.wait()


def _require_alive(children: Sequence[tuple[subprocess.Popen[bytes], Path]]) -> None:
    """Raises the first failed process's own last line."""
    for child, said in children:
        if child.returncode:
            lines = said.read_text(errors="replace").strip().splitlines()
            kind = UsageError if child.returncode == UsageError.exit_code else WorldlineError
            raise kind(lines[-1] if lines else f"A process that played ended with {child.returncode}: try again")


def main() -> int:
    """Play the share that a file names."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    play, folder = Play(**asked["play"]), Path(asked["folder"])
    try:
        with Studio(play) as studio:
            for each in asked["takes"]:
                frames, facts = studio.play(Take(**each))
                keep(folder, play, frames, facts)
    except WorldlineError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0
