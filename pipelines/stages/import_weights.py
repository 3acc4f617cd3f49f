"""Stage `imported`: a released checkpoint as an agent of ours, ready to be evaluated and fine-tuned.

The family of the agent says what its files are called and how their names become ours.
Run: `worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from models.family import AgentConfig
from models.registry import family_of
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Draft, Report
from pipelines.store.files import sha256_of
from pipelines.store.stage_config import StageConfig, filled, manner
from pipelines.store.store import Store


@dataclass(frozen=True)
class ReleasedConfig(StageConfig):
    """Weights that someone else trained. Their files are known by their sha256; where they lie decides nothing.

    `name` and the networks' sizes are the recipe's.
    """

    STAGE: ClassVar[str] = "imported"
    VERB: ClassVar[str] = "released"
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = ("round_trip",)

    tokenizer_sha256: str = ""
    model_sha256: str = ""
    tokenizer_file: str = manner("")
    model_file: str = manner("")
    name: str = filled("name", "")
    networks: AgentConfig = field(default_factory=AgentConfig, metadata={"inner": True})

    def __post_init__(self) -> None:
        for field_name in ("tokenizer_sha256", "model_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, field_name)):
                raise UsageError(
                    f"{field_name} is '{getattr(self, field_name)}': give the file's sha256, 64 hexadecimal digits"
                )

    @property
    def subject(self) -> str:
        return self.name

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """By network, its file and the sha256 of that."""
        return {
            "tokenizer": (self.tokenizer_file, self.tokenizer_sha256),
            "model": (self.model_file, self.model_sha256),
        }


def run(config: ReleasedConfig, store: Store) -> Report:
    """Import the files that `config` names, or find their artefact."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: ReleasedConfig, draft: Draft) -> None:
    from pipelines.environments import registry
    from pipelines.training.checkpoints import name_parts, save_agent
    from pipelines.training.weight_files import comes_back, read_state_dict

    agent = family_of(config.networks).build(config.networks)
    same = True
    for name, (file, sha256) in config.files.items():
        path = _named(file, sha256)
        weights = read_state_dict(path)
        try:
            agent.load_original(name, weights)
        except ValueError as error:
            raise WorldlineError(f"{path} {error}") from error
        draft.roots.append({"file": path.name, "sha256": sha256, "bytes": path.stat().st_size})
        same = same and comes_back(agent, name, weights, draft.scratch)
    agent.spaces = registry.spaces(registry.GAMES[0], registry.protocol("jowa"))
    save_agent(draft.folder, agent)
    name_parts(draft, agent)
    sizes = {name: sum(weight.numel() for weight in network.parameters()) for name, network in agent.networks.items()}
    draft.counts |= {"parameters": sizes["model"], "tokenizer_parameters": sizes["tokenizer"]}
    detail = "every weight of both files, exported and read back, is bit for bit the one that came in"
    draft.check("round_trip", same, detail, blocking=True)


def _named(file: str, sha256: str) -> Path:
    """The file that the config means. Raises UsageError where it is not given, not there, or another one."""
    if not file:
        raise UsageError(
            f"The checkpoint of sha256 {sha256} is not in this store: bring it with 'worldline import-jowa'"
        )
    path = Path(file)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): give a checkpoint's file") from error
    if found != sha256:
        raise UsageError(f"{file} has sha256 {found}, not {sha256}: it is another file, import it as such")
    return path
