"""A checkpoint under the original's names: `tokenizer.pt` and `model.pt`, state_dicts that its own loader takes.

The original's index buffers are written again. Read back, every tensor equals the one written, bit for bit; imported
again (`worldline import-jowa`), the networks have the very weights that were exported.
Run: `worldline export checkpoint EXPERIMENT --to jowa --out DIR`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.api import Agent
from pipelines.progress import Advance
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin


@dataclass(frozen=True)
class JowaCheckpoint:
    """An `Export` of one agent: the folder `name` with a file a network."""

    agent: Agent
    name: str

    form: ClassVar[str] = "jowa"
    size: ClassVar[int] = 2
    unit: ClassVar[str] = "files"

    @property
    def options(self) -> dict[str, Any]:
        return {}

    @property
    def counts(self) -> dict[str, int]:
        return {"tensors": sum(len(tensors) for tensors in self._files().values())}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        path.mkdir()
        for name, tensors in self._files().items():
            torch.save(tensors, path / name)
            advance(1)

    def read_back(self, path: Path, advance: Advance) -> None:
        for name, tensors in self._files().items():
            found = torch.load(path / name, map_location="cpu", weights_only=True)
            if found.keys() != tensors.keys() or not all(torch.equal(found[key], tensors[key]) for key in tensors):
                raise differs(name)
            advance(1)

    def _files(self) -> dict[str, dict[str, Tensor]]:
        return {f"{name}.pt": self.agent.original_state_dict(name) for name in self.agent.networks}
