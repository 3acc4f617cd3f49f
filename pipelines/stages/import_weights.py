"""Stage `imported`: a released checkpoint as an agent of ours, ready to be evaluated and fine-tuned.

The original's files: the family of the agent says what they are called and how their names become ours.
Run: `worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m`, or
`worldline import iris --file Pong.pt`.

Stage `imported_world`: a world that others trained on videos, for agents to go on from; of a file that holds all of it
or of a folder with a file a network. Run: `worldline import dreamer --file variables.pt --recipe prelar --game reach`.

A folder that another home exported: it is taken as it is, with the manifests of all that the checkpoint and its scores
were made from there. Run: `worldline import hub DIR`.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from models.family import AgentConfig
from models.registry import family_of
from models.spaces import Box, Spaces
from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.store.artefact import Draft, Report
from pipelines.store.files import sha256_of
from pipelines.store.stage_config import StageConfig, filled, manner, option
from pipelines.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from models.api import Agent


@dataclass(frozen=True)
class ReleasedConfig(StageConfig):
    """Weights that someone else trained. Their files are known by their sha256; where they lie decides nothing.

    Two files of the original, a `file` that holds all networks, or a `folder` known by the sha256 of its list of files.
    `name` and the networks' sizes are the recipe's.
    """

    STAGE: ClassVar[str] = "imported"
    VERB: ClassVar[str] = "released"
    CODE: ClassVar[str] = "3"
    CHECKS: ClassVar[tuple[str, ...]] = ("round_trip",)

    tokenizer_sha256: str = ""
    model_sha256: str = ""
    tokenizer_file: str = manner("")
    model_file: str = manner("")
    folder_sha256: str = option("")
    folder: str = manner("")
    file_sha256: str = option("")
    file: str = manner("")
    name: str = filled("name", "")
    networks: AgentConfig = field(default_factory=AgentConfig, metadata={"inner": True})

    def __post_init__(self) -> None:
        alone = next((each for each in ("folder_sha256", "file_sha256") if getattr(self, each)), "")
        for field_name in (alone,) if alone else ("tokenizer_sha256", "model_sha256"):
            require_sha256(field_name, getattr(self, field_name))

    @property
    def subject(self) -> str:
        return self.name

    @property
    def held(self) -> AgentConfig:
        """The networks that the files hold."""
        return self.networks

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """The files and their sha256, each by the network that it holds; by "" the one that holds all."""
        if self.file_sha256:
            return {"": (self.file, self.file_sha256)}
        return {
            "tokenizer": (self.tokenizer_file, self.tokenizer_sha256),
            "model": (self.model_file, self.model_sha256),
        }


@dataclass(frozen=True)
class ReleasedWorldConfig(StageConfig):
    """A world that someone else trained on videos: a `file` that holds all of it, or `parts` that lie in `folder`.

    parts: files of single networks as "name:sha256", by the names that the original gives them (`Family.part_files`).
    `world` are the networks' sizes; `name` is the recipe's.
    """

    STAGE: ClassVar[str] = "imported_world"
    VERB: ClassVar[str] = "released_world"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("round_trip",)

    file_sha256: str = ""
    file: str = manner("")
    parts: tuple[str, ...] = ()
    folder: str = manner("")
    name: str = filled("name", "")
    world: AgentConfig = field(default_factory=AgentConfig, metadata={"inner": True})

    def __post_init__(self) -> None:
        if not self.parts:
            require_sha256("file_sha256", self.file_sha256)
        for name, sha256 in self._parts.items():
            require_sha256(name, sha256)
            if self.world.family and name not in (known := family_of(self.world).part_files):
                raise unknown("file of a network", name, known, "as pre-training writes them")

    @property
    def subject(self) -> str:
        return self.name

    @property
    def held(self) -> AgentConfig:
        """The networks that the files hold."""
        return self.world

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """See `ReleasedConfig`; parts by their own names."""
        found = {name: (str(Path(self.folder) / name), sha256) for name, sha256 in self._parts.items()}
        return found or {"": (self.file, self.file_sha256)}

    @property
    def _parts(self) -> dict[str, str]:
        return {name: sha256 for name, _, sha256 in (each.partition(":") for each in self.parts)}


Released = ReleasedConfig | ReleasedWorldConfig


def require_sha256(name: str, sha256: str) -> None:
    """Raises UsageError for what is no sha256."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise UsageError(f"{name} is '{sha256}': give the file's sha256, 64 hexadecimal digits")


def run(config: Released, store: Store) -> Report:
    """Import the files that `config` names, or find their artefact."""

    def build(draft: Draft) -> None:
        if isinstance(config, ReleasedConfig) and config.folder_sha256:
            _build_from_folder(config, draft)
        else:
            _build(config, draft)

    return store.produce(config.spec(), build)


def _build(config: Released, draft: Draft) -> None:
    from pipelines.training.checkpoints import name_parts, save_agent
    from pipelines.training.weight_files import keep_dtypes, other_dtypes

    agent, dtypes, brought = family_of(config.held).build(config.held), {}, _brought(config, draft)
    for name, (where, weights) in brought.items():
        for network in _held(agent, name):
            try:
                agent.load_original(network, weights)
                dtypes[network] = other_dtypes(agent, network, weights)
            except ValueError as error:
                raise WorldlineError(f"{where} {error}") from error
    agent.spaces = _spaces(config.held)
    save_agent(draft.folder, agent)
    keep_dtypes(draft.folder, dtypes)
    name_parts(draft, agent)
    _count(draft, agent)
    different = _different(draft, {name: weights for name, (_, weights) in brought.items()})
    detail = "exported from what is kept here, every weight has the bits and the dtype that it came with"
    if different:
        detail = f"{len(different)} weights do not come back as they came in, among them {', '.join(different[:3])}"
    draft.check("round_trip", not different, detail, blocking=True)


def _brought(config: Released, draft: Draft) -> dict[str, tuple[Path, dict[str, "Tensor"]]]:
    """The files' weights and where they lie, by network, or by "" of all; files that make a whole are put together."""
    from pipelines.training.weight_files import read_state_dict

    found: dict[str, tuple[Path, dict[str, Tensor]]] = {}
    before = family_of(config.held).part_files
    for name, (file, sha256) in config.files.items():
        path = _named(file, sha256)
        weights = read_state_dict(path)
        draft.roots.append({"file": path.name, "sha256": sha256, "bytes": path.stat().st_size})
        if name in before:
            _, whole = found.get("", (path.parent, {}))
            found[""] = path.parent, whole | {before[name] + key: each for key, each in weights.items()}
        else:
            found[name] = path, weights
    return found


def _spaces(networks: AgentConfig) -> Spaces | None:
    """What an agent sees and does; None of a world of videos, which does nothing."""
    from pipelines.environments import registry

    known = registry.spaces(registry.GAMES[0], registry.protocol("jowa"))
    if networks.watches:
        return None
    takes = networks.takes
    return replace(
        known,
        frame=takes.frame or known.frame,
        actions=known.actions if takes.numbers is None else Box(takes.numbers),
    )


def _build_from_folder(config: ReleasedConfig, draft: Draft) -> None:
    """Copy the files, verify the copy, and load the agent from it."""
    from safetensors.torch import load_file

    from pipelines.store.files import SUMS
    from pipelines.store.lineage import COPY_OF
    from pipelines.training.checkpoints import name_parts, saved_agent
    from pipelines.training.device import Device
    from pipelines.training.hub_folder import HubFolder
    from pipelines.training.weight_files import differences

    if not config.folder:
        raise UsageError(
            f"The folder of sha256 {config.folder_sha256} is not in this store: bring it with 'worldline import hub'"
        )
    source = HubFolder.open(Path(config.folder))
    if source.sha256 != config.folder_sha256:
        raise UsageError(
            f"{config.folder} has sha256 {source.sha256}, not {config.folder_sha256}: it is another one, import it so"
        )
    for name in (*source.sums, SUMS):
        shutil.copyfile(source.path / name, draft.path(name))
    theirs = HubFolder.open(draft.folder).checkpoint  # what was copied is what is verified
    draft.roots.append(
        {
            COPY_OF: str(theirs.ref),
            "manifest_sha256": theirs.digest,
            "sha256": source.sha256,
            "folder": source.path.name,
        }
    )
    agent = saved_agent(draft.folder, Device("cpu", bf16=False))
    name_parts(draft, agent)
    _count(draft, agent)
    draft.counts["manifests"] = len(source.kept)
    lost = [
        f"{name}: {weight}"
        for name, network in agent.networks.items()
        for weight in differences(network.state_dict(), load_file(draft.folder / f"{name}.safetensors"))
    ]
    detail = "every weight that was loaded has the bits and the dtype that its file has"
    if lost:
        detail = f"{len(lost)} weights are not loaded as their files hold them, among them {', '.join(lost[:3])}"
    draft.check("round_trip", not lost, detail, blocking=True)


def _count(draft: Draft, agent: "Agent") -> None:
    sizes = {name: sum(weight.numel() for weight in network.parameters()) for name, network in agent.networks.items()}
    tokenizer = sizes.pop("tokenizer", 0)
    draft.counts |= {"parameters": sum(sizes.values()), "tokenizer_parameters": tokenizer}


def _held(agent: "Agent", name: str) -> tuple[str, ...]:
    """The networks that a file of `ReleasedConfig.files` holds."""
    return (name,) if name else tuple(agent.networks)


def _different(draft: Draft, brought: Mapping[str, Mapping[str, "Tensor"]]) -> list[str]:
    """The weights that an export of the artefact, written and read back, gives otherwise than those brought."""
    import torch

    from pipelines.training.checkpoints import saved_agent
    from pipelines.training.device import Device
    from pipelines.training.weight_files import differences, kept_dtypes, original_file, read_state_dict

    agent, dtypes, found = saved_agent(draft.folder, Device("cpu", bf16=False)), kept_dtypes(draft.folder), []
    exported = draft.scratch / "exported.pt"
    for name, released in brought.items():
        for network in _held(agent, name):
            torch.save(original_file(agent, network, dtypes.get(network, {})), exported)
            theirs = agent.original_weights(network, released)
            found += [f"{network}: {weight}" for weight in differences(read_state_dict(exported), theirs)]
            exported.unlink()
    return found


def _named(file: str, sha256: str) -> Path:
    """The file that the config means. Raises UsageError where it is not given, not there, or another one."""
    if not file:
        raise UsageError(
            f"The checkpoint of sha256 {sha256} is not in this store: bring it with 'worldline import-jowa' or "
            "'worldline import', which lists the others"
        )
    path = Path(file)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): give a checkpoint's file") from error
    if found != sha256:
        raise UsageError(f"{file} has sha256 {found}, not {sha256}: it is another file, import it as such")
    return path
