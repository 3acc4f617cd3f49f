"""Stage `imported`: a released checkpoint as an agent of ours, ready to be evaluated and fine-tuned.

The original's files: the family of the agent says what they are called and how their names become ours.
Run: `worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m`, or
`worldline import iris --file Pong.pt`.

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
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Draft, Report
from pipelines.store.files import sha256_of
from pipelines.store.stage_config import StageConfig, filled, manner, option
from pipelines.store.store import Store

if TYPE_CHECKING:
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
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, field_name)):
                raise UsageError(
                    f"{field_name} is '{getattr(self, field_name)}': give the file's sha256, 64 hexadecimal digits"
                )

    @property
    def subject(self) -> str:
        return self.name

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """The files and their sha256, each by the network that it holds; by "" the one that holds all."""
        if self.file_sha256:
            return {"": (self.file, self.file_sha256)}
        return {
            "tokenizer": (self.tokenizer_file, self.tokenizer_sha256),
            "model": (self.model_file, self.model_sha256),
        }


def run(config: ReleasedConfig, store: Store) -> Report:
    """Import the files that `config` names, or find their artefact."""
    build = _build_from_folder if config.folder_sha256 else _build
    return store.produce(config.spec(), lambda draft: build(config, draft))


def _build(config: ReleasedConfig, draft: Draft) -> None:
    from pipelines.environments import registry
    from pipelines.training.checkpoints import name_parts, save_agent
    from pipelines.training.weight_files import keep_dtypes, other_dtypes, read_state_dict

    agent = family_of(config.networks).build(config.networks)
    paths, dtypes = {}, {}
    for name, (file, sha256) in config.files.items():
        path = paths[name] = _named(file, sha256)
        weights = read_state_dict(path)
        for network in _held(agent, name):
            try:
                agent.load_original(network, weights)
            except ValueError as error:
                raise WorldlineError(f"{path} {error}") from error
            dtypes[network] = other_dtypes(agent, network, weights)
        draft.roots.append({"file": path.name, "sha256": sha256, "bytes": path.stat().st_size})
    known = registry.spaces(registry.GAMES[0], registry.protocol("jowa"))
    agent.spaces = replace(known, frame=config.networks.takes.frame or known.frame)
    save_agent(draft.folder, agent)
    keep_dtypes(draft.folder, dtypes)
    name_parts(draft, agent)
    _count(draft, agent)
    different = _different(draft, paths)
    detail = "exported from what is kept here, every weight has the bits and the dtype that it came with"
    if different:
        detail = f"{len(different)} weights do not come back as they came in, among them {', '.join(different[:3])}"
    draft.check("round_trip", not different, detail, blocking=True)


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


def _different(draft: Draft, paths: Mapping[str, Path]) -> list[str]:
    """The weights that an export of the artefact, written and read back, gives otherwise than the files hold them."""
    import torch

    from pipelines.training.checkpoints import saved_agent
    from pipelines.training.device import Device
    from pipelines.training.weight_files import differences, kept_dtypes, original_file, read_state_dict

    agent, dtypes, found = saved_agent(draft.folder, Device("cpu", bf16=False)), kept_dtypes(draft.folder), []
    for name, path in paths.items():
        exported, released = draft.scratch / path.name, read_state_dict(path)
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
            "'worldline import iris'"
        )
    path = Path(file)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): give a checkpoint's file") from error
    if found != sha256:
        raise UsageError(f"{file} has sha256 {found}, not {sha256}: it is another file, import it as such")
    return path
