"""A recording in the making: every step that was shown, in memory as little as can be, and as files in the end.

`recording.npz` holds, for T steps and the beginning before them: `pictures_<title>` (T+1, H, W) or (T+1, H, W, 3)
uint8, actions (T+1,) int16 (places in `names`; -1 at a beginning) or (T+1, A) float32 where an action is numbers (NaN
at a beginning), rewards and totals (T+1,) float32, ended (T+1,) bool, steps (T+1,) int32, and values (T+1, A) float32,
NaN where there were none. `facts.jsonl` has a line a step.
A film shows all pictures side by side. What was played in the real game becomes trajectories as well.
Letters: T steps, H, W pixels, A actions that a person can choose.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.environments.actions import stored_action
from pipelines.episodes.trajectories import CHUNK, FILE_NAME, FLAT, TrajectoryWriter, pack
from pipelines.errors import UsageError
from pipelines.evaluation import film
from pipelines.play.mode import LONGEST, RECORDING, Shown
from pipelines.play.source import Action

FACTS = "facts.jsonl"
SMALL = 200  # pixels of height below which a film is enlarged: a screen is not
GAP = 4  # pixels between two pictures of a film


class Taken:
    """What was shown since `first`. `names` are the mode's actions, `game` whose they are."""

    def __init__(self, game: str, names: Sequence[str], first: Shown) -> None:
        self.game, self.names = game, tuple(names)
        self._shapes = {title: picture.shape for title, picture in first.pictures.items()}
        self._packed: list[dict[str, bytes]] = []
        self._shown: list[Shown] = []
        self.add(first)

    def __len__(self) -> int:
        """Steps after the first."""
        return len(self._shown) - 1

    def add(self, shown: Shown) -> None:
        """One step more. Raises UsageError where there are too many for one recording."""
        if len(self._shown) > LONGEST:
            raise UsageError(f"A recording has at most {LONGEST:,} steps, ten minutes: begin another one")
        self._packed.append({title: zlib.compress(shown.pictures[title].tobytes(), 1) for title in self._shapes})
        self._shown.append(replace(shown, pictures={}))

    def pictures(self, title: str) -> Iterator[NDArray[np.uint8]]:
        """All of one title, in order."""
        for packed in self._packed:
            yield np.frombuffer(zlib.decompress(packed[title]), np.uint8).reshape(self._shapes[title])

    def side_by_side(self) -> Iterator[NDArray[np.uint8]]:
        """The frames of the film, (H, W, 3): all pictures as high as the highest, enlarged by whole pixels alone."""
        for pictures in zip(*(self.pictures(title) for title in self._shapes), strict=True):
            yield beside(pictures)

    @property
    def counts(self) -> dict[str, int]:
        """For a manifest."""
        return {"steps": len(self), "episodes": 1 + sum(shown.step == 0 for shown in self._shown[1:])}

    @property
    def metrics(self) -> dict[str, Any]:
        """For a manifest: what came of it."""
        facts = self._shown[-1].facts
        rewards = float(sum(shown.reward for shown in self._shown))
        ends = int(sum(shown.ended for shown in self._shown))
        return {"reward": rewards, "ends": ends, "pictures": sorted(self._shapes), "last": dict(facts)}

    # ---- files ----

    def write_arrays(self, folder: Path) -> None:
        """Write `recording.npz` and `facts.jsonl`."""
        values = [shown.values for shown in self._shown]
        absent = np.full(len(self.names), np.nan, np.float32)
        kind = stored_action(self.game)
        nothing: Action = (np.nan,) * sum(kind.shape) if kind.shape else -1
        done = [nothing if shown.action is None else shown.action for shown in self._shown]
        small: dict[str, NDArray[Any]] = {
            "actions": np.array(done, np.float32 if kind.shape else np.int16),
            "rewards": np.array([shown.reward for shown in self._shown], np.float32),
            "totals": np.array([shown.total for shown in self._shown], np.float32),
            "ended": np.array([shown.ended for shown in self._shown], np.bool_),
            "steps": np.array([shown.step for shown in self._shown], np.int32),
            "values": np.stack([absent if each is None else each for each in values]),
            "names": np.array(self.names, np.str_),
        }
        with zipfile.ZipFile(folder / RECORDING, "w", zipfile.ZIP_DEFLATED) as file:
            for name, array in small.items():
                self._member(file, name, array.shape, array.dtype, [array])
            for title, shape in self._shapes.items():
                whole = (len(self._shown), *shape)
                self._member(file, f"pictures_{title}", whole, np.dtype(np.uint8), self.pictures(title))
        lines = [json.dumps({"step": shown.step, **shown.facts}) for shown in self._shown]
        (folder / FACTS).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def _member(file: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Any) -> None:
        """An array as `numpy.load` reads it, a piece at a time; of no date, so that equal arrays make equal files."""
        entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        with file.open(entry, "w", force_zip64=True) as out:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for piece in pieces:
                out.write(np.ascontiguousarray(piece).tobytes())

    def write_film(self, path: Path) -> Path:
        """Write the film beside `path`, small pictures enlarged; see `film.write`."""
        small = max(shape[0] for shape in self._shapes.values()) < SMALL
        return film.write(self.side_by_side(), path, film.SCALE if small else 1, film.ffmpeg())

    def write_trajectories(self, folder: Path) -> str:
        """Write what was played in the real game as trajectories; the hash of their frames, "" where nothing was.

        Rewards are clipped to their sign, as all stored replay has them, but where an action is numbers. An episode
        without an end was truncated.
        """
        # The first picture's own action was chosen at one before the recording.
        places = [place for place, shown in enumerate(self._shown) if place and shown.action is not None]
        if not places or "given" not in self._shapes:
            return ""
        shown = [self._shown[place] for place in places]
        begins = [self._shown[place - 1].action is None for place in places]
        starts = [number for number, begin in enumerate(begins) if begin or number == 0]
        lengths = np.diff([*starts, len(places)]).tolist()
        lasts = np.cumsum(lengths) - 1
        terminated = np.array([each.facts.get("end") == "terminated" for each in shown], np.uint8)
        truncated = np.zeros(len(shown), np.uint8)
        truncated[lasts] = 1 - terminated[lasts]
        kind, rewards = stored_action(self.game), np.array([each.reward for each in shown], np.float32)
        flat: dict[str, NDArray[Any]] = {
            "actions": np.array([each.action for each in shown], kind.base),
            "rewards": rewards if kind.shape else np.sign(rewards),
            "terminals": terminated,
            "truncations": truncated,
        }
        shape = self._shapes["given"]
        frames = list(self.pictures("given"))
        seen = [frames[place - 1] for place in places]  # what an action was chosen at
        with TrajectoryWriter(folder / FILE_NAME, self.game, self.names, lengths, shape, sum(kind.shape)) as writer:
            for name in FLAT:
                writer.write(name, 0, flat[name])
            for number, first in enumerate(range(0, len(seen), CHUNK)):
                chunk = np.stack(seen[first : first + CHUNK])
                short = min(CHUNK, len(seen)) - len(chunk)
                writer.write_chunk(number, pack(np.concatenate([chunk, np.zeros((short, *shape), np.uint8)])))
            return writer.frames_sha256()


def beside(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures (H, W) or (H, W, 3) in one, (H, W, 3): each enlarged by a whole factor, on black of the same height."""
    tallest = max(picture.shape[0] for picture in pictures)
    columns: list[NDArray[np.uint8]] = []
    for picture in pictures:
        colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
        factor = max(1, tallest // picture.shape[0])
        size = (picture.shape[1] * factor, picture.shape[0] * factor)
        large = np.asarray(cv2.resize(colour, size, interpolation=cv2.INTER_NEAREST))
        above = (tallest - large.shape[0]) // 2
        columns.append(np.pad(large, ((above, tallest - large.shape[0] - above), (0, 0), (0, 0))))
        columns.append(np.zeros((tallest, GAP, 3), np.uint8))
    whole = np.concatenate(columns[:-1], axis=1)
    return np.pad(whole, ((0, whole.shape[0] % 2), (0, whole.shape[1] % 2), (0, 0)))
