"""The `trajectories.h5` of an artefact, taken out of it: what an agent played while it learned, or drawn episodes.

It comes in as whole episodes for others to learn from (`worldline import trajectories .../trajectories.h5`). Rewards,
which are the game's own points where an agent played, are clipped to their sign, but where an action is numbers: there
agents learn from the points themselves. The last episode of an environment may
be unfinished: neither terminal nor truncated. Nothing follows it here, so it counts as truncated, as any other episode
does that no game over ends. Where the artefact's manifest lies beside the file and names it, it says where the file
came from.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipelines.environments.actions import action_names, stored_action
from pipelines.environments.registry import require_game
from pipelines.episodes.jowa_h5 import BROKEN, own_member
from pipelines.episodes.trajectories import FLAT, Trajectories, narrowed, require_sound
from pipelines.errors import WorldlineError, may_pass, not_now
from pipelines.store.files import sha256_of

STARTS, FRAMES = "episode_starts", "observations"
MANIFEST = "manifest.json"


class OwnTrajectories(Trajectories):
    """A `TrajectoryReader` of such a file from outside the store, of which nothing is believed.

    Raises WorldlineError for a damaged file, UsageError for one of another game.
    """

    def __init__(self, path: Path, game: str) -> None:
        _require_plain(path)
        super().__init__(path)
        require_game(path, self.game, game)
        self.game = game
        if self.action_names != (names := action_names(game)):
            raise WorldlineError(
                f"{path} numbers the actions {', '.join(self.action_names)[:120]}, and {game} has {', '.join(names)}: "
                "copy the artefact's file again"
            )
        for name, dtype in FLAT.items():
            kind = stored_action(game).base if name == "actions" else dtype
            setattr(self, name, narrowed(getattr(self, name), name, kind, str(path)))
        self.episode_starts = narrowed(self.episode_starts, STARTS, np.int64, str(path))
        require_sound(self, str(path))
        self.raw_returns = np.add.reduceat(self.rewards.astype(np.float64), self.episode_starts[:-1]).tolist()
        if names:
            self.rewards = np.sign(self.rewards).astype(np.float32)
        last = self.episode_starts[1:] - 1
        unfinished = (self.terminals[last] | self.truncations[last]) == 0
        self.truncations[last[unfinished]] = 1
        self.facts = {"unfinished_episodes": int(unfinished.sum())}
        self.lineage = _lineage(path)


def is_there(path: Path) -> bool:
    """Whether this is such a file."""
    try:
        with h5py.File(path, "r") as file:
            return isinstance(file.get(STARTS), h5py.Dataset) and FRAMES in file
    except (*BROKEN, ValueError):
        return False


def _require_plain(path: Path) -> None:
    """Every array lies in this very file, and frames are bytes."""
    try:
        with h5py.File(path, "r") as file:
            for name in (FRAMES, *FLAT, STARTS, "source_rows"):
                if name in file and not isinstance(own_member(file, name, str(path)), h5py.Dataset):
                    raise WorldlineError(f"{path}: {name} is no array: copy the artefact's file again")
            if file[FRAMES].dtype != np.uint8:
                raise WorldlineError(f"{path}: {FRAMES} are {file[FRAMES].dtype}, not uint8: copy the file again")
    except BROKEN as error:
        if may_pass(error):
            raise not_now(path, error) from error
        raise WorldlineError(f"{path} is no readable trajectory file ({error}): copy the artefact's again") from error


def _lineage(path: Path) -> dict[str, Any]:
    """Of which artefact the file is a part, by the manifest beside it; empty where that is not about this very file."""
    manifest = path.with_name(MANIFEST)
    try:
        found = json.loads(manifest.read_bytes())
        named = {str(each["path"]): each["sha256"] for each in found["files"]}
        if named.get(path.name) != sha256_of(path):
            return {}
        ref = "/".join(str(found[name]) for name in ("stage", "subject", "key"))
        return {"ref": ref, "manifest_sha256": sha256_of(manifest)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
