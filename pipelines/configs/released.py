"""Config of the stage `imported`: a released checkpoint, named by what its two files hash to."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from models.jowa.config import JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.configs.base import StageConfig, manner
from pipelines.errors import UsageError


@dataclass(frozen=True)
class ReleasedConfig(StageConfig):
    """Weights that someone else trained, as an artefact of ours. Where the files lie decides nothing.

    `name` and the networks' sizes are the recipe's.
    """

    STAGE: ClassVar[str] = "imported"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("round_trip",)

    tokenizer_sha256: str = ""
    model_sha256: str = ""
    tokenizer_file: str = manner("")
    model_file: str = manner("")
    name: str = ""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: JowaConfig = field(default_factory=JowaConfig)

    def __post_init__(self) -> None:
        for field_name in ("tokenizer_sha256", "model_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, field_name)):
                raise UsageError(
                    f"{field_name} is '{getattr(self, field_name)}': give the file's sha256, 64 hexadecimal digits"
                )

    @property
    def subject(self) -> str:
        return self.name
