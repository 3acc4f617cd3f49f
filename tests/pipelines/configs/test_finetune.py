"""Fine-tuning's config refuses what the stage would pass over in silence."""

from dataclasses import replace

import pytest

from pipelines.configs.finetune import FinetuneConfig
from pipelines.configs.learn import LoopConfig
from pipelines.errors import UsageError


def test_what_the_stage_does_not_do_is_refused() -> None:
    plain = FinetuneConfig(game="Pong")
    parts = tuple(replace(phase, accumulate=2) for phase in plain.phases)
    for fields in ({"phases": parts}, {"loop": LoopConfig(evaluate_every=5)}, {"loop": LoopConfig(checkpoint_every=5)}):
        with pytest.raises(UsageError, match="Fine-tuning takes whole batches and keeps no checkpoint"):
            replace(plain, **fields)
