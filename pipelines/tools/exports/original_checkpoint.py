"""A checkpoint under the original's names: state_dicts that its own loader takes, such as JOWA's `tokenizer.pt` and
`model.pt`, or IRIS's `last.pt`.

Index buffers are written again, and IRIS's causal masks; LPIPS goes out where a file that has it is given. Read back,
every tensor equals the one written, bit for bit; imported again (`worldline import-jowa`, `worldline import iris`), the
networks have the very weights that were exported. Weights that were imported go out with the bits and the dtype that
they came with.
Run: `worldline export checkpoint EXPERIMENT --to jowa --out DIR`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.api import Agent
from pipelines.errors import UsageError
from pipelines.progress import Advance
from pipelines.store.artefact import Artefact
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin
from pipelines.training.checkpoints import load_agent, require_family
from pipelines.training.device import Device
from pipelines.training.weight_files import differences, kept_dtypes, lpips_of, original_files


@dataclass(frozen=True)
class OriginalCheckpoint:
    """An `Export` of one agent: the folder `name` with the files of its family's original.

    dtypes: by network and weight, where the file's is not the network's own (`weight_files.kept_dtypes`). lpips: by the
    original's name, what is passed through.
    """

    agent: Agent
    name: str
    dtypes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lpips: Mapping[str, Tensor] = field(default_factory=dict)

    unit: ClassVar[str] = "files"

    @classmethod
    def of(cls, artefact: Artefact, name: str, family: str, lpips: Path | None, asked: str) -> "OriginalCheckpoint":
        """Of an artefact with an agent. Raises UsageError for one of another family than `asked` is for, for what the
        original cannot hold, and for a file without LPIPS weights."""
        agent = load_agent(artefact, Device("cpu", bf16=False))
        require_family(agent, family, asked)
        found = cls(agent, name, kept_dtypes(artefact.folder), lpips_of(lpips) if lpips else {})
        try:
            found.files  # noqa: B018, which raises for what the original cannot hold
        except ValueError as error:
            raise UsageError(f"{artefact.ref} cannot be written for the original's code: {error}") from error
        return found

    @property
    def form(self) -> str:
        return self.agent.config.family

    @property
    def size(self) -> int:
        return len(self.files)

    @property
    def options(self) -> dict[str, Any]:
        return {"lpips": sorted(self.lpips)} if self.lpips else {}

    @property
    def counts(self) -> dict[str, int]:
        return {"tensors": sum(len(tensors) for tensors in self.files.values())}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        path.mkdir()
        for name, tensors in self.files.items():
            torch.save(tensors, path / name)
            advance(1)

    def read_back(self, path: Path, advance: Advance) -> None:
        for name, tensors in self.files.items():
            found = torch.load(path / name, map_location="cpu", weights_only=True)
            if found.keys() != tensors.keys() or differences(found, tensors):
                raise differs(name)
            advance(1)

    @cached_property
    def files(self) -> dict[str, dict[str, Tensor]]:
        """By file, its tensors by name."""
        return original_files(self.agent, self.dtypes, self.lpips)
