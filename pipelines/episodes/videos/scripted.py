"""Videos that the project makes itself: Meta-world's scripted experts act with noise, and a camera looks on.

One video is a `Take`: a task, a camera, an episode, and from these and a seed alone all that is drawn. So takes may be
played in any order and by any number of processes (play_takes.py). A finished one lies in a file of its own until all
are there: facts in a first line of JSON, then the packed frames; who reads it holds it against the hash in that line.
Letters: L frames of a video.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments import registry
from pipelines.environments.metaworld.game import CAMERAS, MetaworldRules
from pipelines.episodes.trajectories import pack, unpack
from pipelines.episodes.videos.video_set import FRAME
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.files import write_whole
from pipelines.store.stage_config import canonical_json

POLICY = "the scripted expert of the package metaworld, with normal noise on each action"
ENDING = ".take"


@dataclass(frozen=True)
class Take:
    """One video. seed: of the episode's places. noise: standard deviation of what is added to an action."""

    task: str
    camera: str
    episode: int
    seed: int
    noise: float

    @property
    def name(self) -> str:
        """No two takes of a set share it."""
        return f"{self.task}-{self.camera}-{self.episode:04d}"


@dataclass(frozen=True)
class Play:
    """How all takes are played: until `after_success` frames after the first success, or `limit` frames are there.

    least: frames that a video has at least. made_with: what drew and moved, by its hash; a take of others is made anew.
    """

    protocol: str
    after_success: int
    limit: int
    least: int
    made_with: str = ""

    def rules(self, camera: str) -> MetaworldRules:
        """The protocol, seen from a camera. Raises UsageError for other rules than Meta-world's, or other frames."""
        found = registry.protocol(self.protocol)
        if not isinstance(found, MetaworldRules) or found.frame != FRAME:
            raise UsageError(
                f"videos.protocol is '{self.protocol}', whose frames are {found.frame}: choose one of Meta-world's, "
                "metaworld or metaworld_fast"
            )
        if self.limit >= found.max_steps:
            raise UsageError(
                f"videos.limit is {self.limit}, an episode of '{self.protocol}' has {found.max_steps} steps: set it to "
                f"{found.max_steps - 1} at most"
            )
        return replace(found, camera=camera)

    def roots(self, takes: Sequence[Take]) -> dict[str, Any]:
        """What plays them, for a manifest: policy, packages, rules in numbers, and what draws."""
        first = takes[0]
        told = registry.roots(first.task, self.rules(first.camera))
        return {"policy": POLICY} | {key: told[key] for key in told if key not in ("game", "task", "camera")}


def takes_of(
    tasks: Sequence[str], cameras: Sequence[str], episodes: int, noise: tuple[float, float], seed: int
) -> list[Take]:
    """So many episodes of each task from each camera, with a noise that is drawn for each between two numbers."""
    found = []
    for episode in range(episodes):  # outermost: the last videos, which trainings hold out, are of all tasks
        for task in tasks:
            for camera in cameras:
                rng = np.random.default_rng([seed, registry.game_id(task), CAMERAS.index(camera), episode])
                drawn = float(rng.uniform(*noise))
                found.append(Take(task, camera, episode, int(rng.integers(2**31)), round(drawn, 4)))
    return found


class Studio(AbstractContextManager["Studio"]):
    """Plays takes, one after the other; those of one task and camera share an environment."""

    def __init__(self, play: Play) -> None:
        self._play, self._set = play, ("", "")
        self._game: Any = None

    def play(self, take: Take) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """The take's frames (L, 64, 64, 3), and what is known of it."""
        from pipelines.environments.metaworld.experts import expert

        game, act = self._environment(take), expert(take.task)
        rng = np.random.default_rng([take.seed, 1])
        frames, total, first = [game.restart([0], [take.seed])[0]], 0.0, 0
        while len(frames) < self._play.limit:
            noise_4 = rng.normal(0.0, take.noise, 4)
            action_4 = np.clip(act(game.states()[0]) + noise_4, -1, 1).astype(np.float32)
            step = game.step(action_4[None])
            frames.append(step.frames[0])
            total += float(step.rewards[0])
            if not first and step.achievements[0, 0]:
                first = len(frames)
            if first and len(frames) >= max(first + self._play.after_success, self._play.least):
                break
        facts = asdict(take) | {"return": round(total, 3), "success": bool(first), "succeeded_at": first or None}
        return np.stack(frames), facts

    def begins_so(self, take: Take, frame: NDArray[np.uint8]) -> bool:
        """Whether a frame (64, 64, 3) is what the camera shows as the take begins.

        It is not where it is more like that upside down, mirrored, or with red and blue changed.
        """
        shown = self._environment(take).restart([0], [take.seed])[0].astype(int)
        turned = (frame, frame[::-1], frame[:, ::-1], frame[..., ::-1])
        off, *others = (float(np.abs(shown - each).mean()) for each in turned)
        return off < min(others)

    def __exit__(self, *_: object) -> None:
        if self._game is not None:
            self._game.close()
        self._game, self._set = None, ("", "")

    def _environment(self, take: Take) -> Any:
        if self._set != (take.task, take.camera):
            self.__exit__()
            self._game = registry.make(take.task, [0], self._play.rules(take.camera))
            self._set = take.task, take.camera
        return self._game


def keep(folder: Path, play: Play, frames: NDArray[np.uint8], facts: dict[str, Any]) -> None:
    """Write a finished take into its file, whole or not at all."""
    packed = pack(np.ascontiguousarray(frames))
    head = facts | {
        "frames": len(frames),
        "made_with": play.made_with,
        "packed": hashlib.sha256(packed).hexdigest(),
        "sha256": hashlib.sha256(frames.tobytes()).hexdigest(),
    }
    path = folder / f"{_take(facts).name}{ENDING}"
    aside = path.with_name(f".{path.name}.{os.getpid()}")  # a killed run's processes may end a moment after it
    write_whole(path, canonical_json(head).encode() + b"\n" + packed, aside)


def kept(folder: Path, play: Play, take: Take) -> tuple[dict[str, Any], bytes] | None:
    """The facts of a take that was finished, and its packed frames; None where it has to be played."""
    try:
        head, _, packed = (folder / f"{take.name}{ENDING}").read_bytes().partition(b"\n")
        facts = json.loads(head)
        sound = facts["packed"] == hashlib.sha256(packed).hexdigest() and facts["made_with"] == play.made_with
        return (facts, packed) if sound and _take(facts) == take else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _take(facts: dict[str, Any]) -> Take:
    return Take(**{name: facts[name] for name in Take.__dataclass_fields__})


class PlayedVideos:
    """A `VideoSet` of finished takes. Raises WorldlineError where one is missing or damaged."""

    where = "Meta-world"

    def __init__(self, folder: Path, play: Play, takes: Sequence[Take]) -> None:
        self._folder, self._play, self._takes = folder, play, tuple(takes)
        self.names = tuple(take.name for take in takes)
        self._facts = tuple(self._read(take)[0] for take in takes)
        self.lengths = tuple(int(facts["frames"]) for facts in self._facts)
        self.facts: dict[str, Any] = {}

    def digest(self, video: int) -> str:
        """Hex sha256 of its frames."""
        return str(self._facts[video]["sha256"])

    def load(self, video: int) -> tuple[str, NDArray[np.uint8]]:
        """The same, and its frames (L, 64, 64, 3)."""
        facts, packed = self._read(self._takes[video])
        return str(facts["sha256"]), unpack(packed, FRAME)

    def about(self, video: int) -> dict[str, Any]:
        """Task, camera, seed, noise, return, and the frame that the first success was reached at, counted from 1."""
        told = ("task", "camera", "seed", "noise", "return", "success", "succeeded_at")
        return {name: self._facts[video][name] for name in told}

    def _read(self, take: Take) -> tuple[dict[str, Any], bytes]:
        found = kept(self._folder, self._play, take)
        if found is None:
            raise WorldlineError(f"{take.name} is damaged or gone from {self._folder}: run the same command again")
        return found
