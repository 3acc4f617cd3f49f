"""A checkpoint under the original's names: `tokenizer.pt` and `model.pt`, state_dicts that its own loader takes.

The original's index buffers are written again, its causal masks and LPIPS are not. Read back, every tensor equals the
one written, bit for bit; imported again (`worldline import-jowa`), the networks have the very weights that were
exported. Weights that were imported go out with the bits and the dtype that they came with.
Run: `worldline export checkpoint EXPERIMENT --to jowa --out DIR`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.api import Agent
from pipelines.progress import Advance
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin
from pipelines.training.weight_files import differences, original_file


@dataclass(frozen=True)
class JowaCheckpoint:
    """An `Export` of one agent: the folder `name` with a file a network.

    dtypes: by network and weight, where the file's is not the network's own (`weight_files.kept_dtypes`).
    """

    agent: Agent
    name: str
    dtypes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

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
            if found.keys() != tensors.keys() or differences(found, tensors):
                raise differs(name)
            advance(1)

    def _files(self) -> dict[str, dict[str, Tensor]]:
        return {
            f"{name}.pt": original_file(self.agent, name, self.dtypes.get(name, {})) for name in self.agent.networks
        }
