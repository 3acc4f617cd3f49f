"""A checkpoint as a folder that model hubs take, and its check: `export hub` writes it, `import hub` reads it.

agent.json and the networks as safetensors lie at the top, beside a card for people (README.md) and what the program
needs (worldline.json: the recipe that scores it, and which artefacts these are). `lineage/<address>/` holds the
manifest of everything that the checkpoint and its scores were made from; their files stay where they were made, but
for the scores' tables of episodes. SHA256SUMS lists every file: `sha256sum -c SHA256SUMS` checks them without
Worldline.

Nothing in such a folder is believed: `HubFolder.open` hashes every file against the list and against the manifest that
it comes from, and every manifest against those that pin it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.family import AgentConfig
from models.registry import family
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import size, track
from pipelines.store.artefact import Artefact
from pipelines.store.files import SUMS, sha256_of
from pipelines.store.lineage import KEPT, kept, kept_faults
from pipelines.store.manifest import MANIFEST_NAME
from pipelines.store.ref import Ref
from pipelines.training.checkpoints import AGENT, agent_files
from pipelines.training.weight_files import DTYPES

ABOUT, CARD = "worldline.json", "README.md"
EPISODES = "episodes.parquet"  # of scores: every episode with its return
FORMAT = 1
MOST_FILES = 20_000
MOST_TEXT = 16 << 20  # bytes of a file that is read as text

_NAME = re.compile(rf"{AGENT}|{DTYPES}|{CARD}|{ABOUT}|[\w-]+\.safetensors|{KEPT}(/[\w.+=-]+){{4,}}", re.ASCII)
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def checkpoint_files(artefact: Artefact) -> list[str]:
    """The files of a checkpoint that make its agent, and the note of the dtypes that its weights came with."""
    names = artefact.names()
    return agent_files(names) + [name for name in names if name == DTYPES]


@dataclass(frozen=True)
class HubFolder:
    """A folder whose every file was verified.

    `sums` has the sha256 of each file by name, `sha256` is that of the list itself. `about` is worldline.json, `kept`
    are the manifests that came along, `checkpoint` among them is the one whose files lie here.
    """

    path: Path
    sums: Mapping[str, str]
    sha256: str
    about: Mapping[str, Any]
    kept: Mapping[Ref, Artefact]
    checkpoint: Artefact

    @classmethod
    def open(cls, path: Path) -> "HubFolder":
        """Raises UsageError for a folder of another format, WorldlineError for one with a file or manifest changed."""
        for name in (SUMS, ABOUT):
            if not (path / name).is_file():
                raise UsageError(
                    f"{path} is no folder of 'worldline export hub' (there is no {name}): give one that holds "
                    f"{SUMS}, {ABOUT} and {AGENT}"
                )
        sums = dict(_listed(path))
        with track(f"Verify {path.name}", len(sums), "files") as advance:
            for name, sha256 in sums.items():
                if (found := sha256_of(_inside(path, name))) != sha256:
                    raise _changed(path / name, f"has sha256 {found[:12]}..., {SUMS} says {sha256[:12]}...")
                advance(1)
        about = _about(path)
        manifests = kept(sums, path.joinpath)
        if faults := kept_faults(manifests):
            raise _changed(path / KEPT, f"does not fit together: {faults[0]}")
        try:
            checkpoint = manifests[Ref.parse(str(about["checkpoint"]))]
        except (KeyError, UsageError) as error:
            raise _changed(path / ABOUT, "names no checkpoint whose manifest is here") from error
        found_here = cls(path, sums, sha256_of(path / SUMS), about, manifests, checkpoint)
        found_here._require_origins()
        return found_here

    def networks(self) -> AgentConfig:
        """The config of the agent's networks. Raises WorldlineError where agent.json describes none."""
        path = self.path / AGENT
        try:
            data = json.loads(path.read_text())
            return family(data["family"]).config.of(data["config"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise WorldlineError(
                f"{path} describes no agent of this version of Worldline ({error}): upgrade Worldline"
            ) from error

    def _require_origins(self) -> None:
        """Every file is one that a manifest lists, with its hash; the checkpoint's agent is whole."""
        if absent := sorted(set(checkpoint_files(self.checkpoint)) - self.sums.keys()):
            raise _changed(self.path / absent[0], f"is missing, {self.checkpoint.ref} has it")
        for name, sha256 in self.sums.items():
            source, inner = self.checkpoint, name
            if name in (CARD, ABOUT) or name.endswith(f"/{MANIFEST_NAME}"):
                continue
            if name.startswith(f"{KEPT}/"):
                folder, _, inner = name.removeprefix(f"{KEPT}/").rpartition("/")
                if Ref.parse(folder) not in self.kept:
                    raise _changed(self.path / name, f"is of {folder}, whose manifest is not here")
                source = self.kept[Ref.parse(folder)]
            hashes = {entry.path: entry.sha256 for entry in source.manifest.files}
            if hashes.get(inner) != sha256:
                raise _changed(self.path / name, f"is not the file that the manifest of {source.ref} lists")


def _listed(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, sha256) of every line of SHA256SUMS."""
    lines = _text(folder, SUMS).splitlines()
    if len(lines) > MOST_FILES:
        raise UsageError(
            f"{folder / SUMS} lists {len(lines):,} files: a folder of this format has at most {MOST_FILES:,}"
        )
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None:
            raise UsageError(
                f"{folder / SUMS} has the line '{line[:80]}': every line is a sha256, two spaces and a name"
            )
        if not _NAME.fullmatch(found[2]) or ".." in found[2].split("/"):
            raise UsageError(
                f"{folder / SUMS} lists '{found[2][:80]}', which has no place in a folder of format {FORMAT}: fetch "
                "the folder again, or give one that 'worldline export hub' wrote"
            )
        yield found[2], found[1]


def _inside(folder: Path, name: str) -> Path:
    """The file of that name. Raises WorldlineError for a link, for what is none, and for a text that is too large."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise _changed(path, "is a link, which may lead anywhere")
    if not path.is_file():
        raise _changed(path, f"is missing, {SUMS} lists it")
    text = not name.endswith((".safetensors", ".parquet"))
    if text and (length := path.stat().st_size) > MOST_TEXT:
        raise _changed(path, f"has {size(length)}: such a file has at most {size(MOST_TEXT)}")
    return path


def _text(folder: Path, name: str) -> str:
    path = _inside(folder, name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _changed(path, f"cannot be read ({error})") from error


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads(_text(folder, ABOUT))
        version = about["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{folder / ABOUT} is no description of a checkpoint ({error}): give a folder of 'worldline export hub'"
        ) from error
    if version != FORMAT:
        raise UsageError(f"{folder} has format {version}, this version reads {FORMAT}: upgrade Worldline")
    return about


def _changed(path: Path, how: str) -> WorldlineError:
    return WorldlineError(f"{path} {how}: fetch the folder again, nothing of it was taken")
