"""A checkpoint with its scores and its whole lineage, as the folder that a model hub takes; and the push to a hub.

What lies where says `training/hub_folder.py`, which is also the reader that an importing home has: the export is read
back with it. Manifests go out byte for byte, since others pin their hashes: one that holds a secret is refused.
Run: `worldline export hub EXPERIMENT --to DIR`.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pipelines.errors import UsageError, WorldlineError
from pipelines.leaderboard.agent_scores import gather
from pipelines.progress import Advance
from pipelines.redact import one_line
from pipelines.store.artefact import Artefact
from pipelines.store.files import SUMS, listing
from pipelines.store.lineage import KEPT
from pipelines.store.manifest import MANIFEST_NAME
from pipelines.store.store import Store
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.lineage_documents import raw_manifest, refuse_secrets, whole_lineage
from pipelines.tools.exports.model_card import model_card
from pipelines.tools.exports.target import Origin
from pipelines.training.hub_folder import ABOUT, CARD, EPISODES, FORMAT, HubFolder, checkpoint_files

LIBRARY, TOKEN = "huggingface_hub", "HF_TOKEN"


@dataclass(frozen=True)
class HubExport:
    """An `Export` of one checkpoint.

    experiment: its name. recipe: how it is scored, in plain JSON. license: as hubs name it; nobody else can know it.
    """

    store: Store
    checkpoint: Artefact
    scores: Sequence[Artefact]
    experiment: str
    recipe: dict[str, Any]
    name: str
    license: str = "unknown"

    form: ClassVar[str] = "hub"
    unit: ClassVar[str] = "files"

    @property
    def size(self) -> int:
        return len(self._files)

    @property
    def options(self) -> dict[str, Any]:
        return {"license": self.license}

    @property
    def counts(self) -> dict[str, int]:
        return {"networks": len(checkpoint_files(self.checkpoint)) - 1, "scores": len(self.scores)} | {
            "manifests": len(self._lineage)
        }

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        for name, raw in self._manifests().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(raw)
        for name, source in self._files.items():
            shutil.copyfile(source, path / name)
            advance(1)
        about = {
            "format": FORMAT,
            "experiment": self.experiment,
            "checkpoint": str(self.checkpoint.ref),
            "scores": [str(score.ref) for score in self.scores],
            "recipe": self.recipe,
        }
        entries = gather([(self.experiment, score) for score in self.scores], self.store)
        card = model_card(self.experiment, self.checkpoint, self._lineage, entries, self.license)
        (path / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (path / CARD).write_text(card, encoding="utf-8")
        (path / SUMS).write_text(listing(path), encoding="utf-8")
        refuse_secrets(path)

    def read_back(self, path: Path, advance: Advance) -> None:
        found = HubFolder.open(path)
        if found.checkpoint.digest != self.checkpoint.digest or found.kept.keys() != {
            each.ref for each in self._lineage
        }:
            raise differs("the lineage")
        advance(self.size)

    @cached_property
    def _lineage(self) -> list[Artefact]:
        """The checkpoint, its scores, and everything that they were made from. Raises WorldlineError where that is not
        whole, or not what was pinned."""
        return whole_lineage(self.store, [self.checkpoint.ref, *(score.ref for score in self.scores)])

    def _manifests(self) -> dict[str, bytes]:
        """By name in the folder, the manifests as they are: those of this store, and those that came with a copy."""
        return {f"{KEPT}/{each.ref}/{MANIFEST_NAME}": raw_manifest(self.store, each) for each in self._lineage}

    @cached_property
    def _files(self) -> dict[str, Path]:
        """By name in the folder, the file that is copied there."""
        files = {name: self.checkpoint.path(name) for name in checkpoint_files(self.checkpoint)}
        for score in self.scores:
            if EPISODES in score.names():
                files[f"{KEPT}/{score.ref}/{EPISODES}"] = score.path(EPISODES)
        return files


def push_allowed(repo: str) -> None:
    """Raises UsageError where the hub's library or the token is missing: before anything is written."""
    if importlib.util.find_spec(LIBRARY) is None:
        raise UsageError(f"--push {repo} needs huggingface-hub, which is not installed: pip install 'worldline[hub]'")
    if not os.environ.get(TOKEN):
        raise UsageError(f"--push {repo} needs a token that may write: set {TOKEN} in the environment")


def send(folder: Path, repo: str, public: bool) -> str:
    """Send an exported folder to the hub as `repo`, made private unless `public`; returns its address.

    Raises UsageError as `push_allowed`, WorldlineError for what the hub refuses.
    """
    push_allowed(repo)
    try:
        api = importlib.import_module(LIBRARY).HfApi(token=os.environ[TOKEN])
        address = api.create_repo(repo_id=repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=f"Worldline checkpoint {folder.name}")
    except Exception as error:  # the library has many, and those of its HTTP client
        raise WorldlineError(
            f"The hub does not take {folder} as {repo} ({one_line(error)[:200]}): the folder is whole, mend that and "
            "run the same command again with --overwrite"
        ) from error
    return str(address)
