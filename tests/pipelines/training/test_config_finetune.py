"""Fine-tuning's config: what is impossible, and that a batch may be taken in parts and checkpoints kept."""

from dataclasses import replace

import pytest

from pipelines.errors import UsageError
from pipelines.training.config import FinetuneConfig, ImagineConfig, LoopConfig


def test_what_is_impossible_is_one_line() -> None:
    for field, value in (("episodes", 0), ("stride", 0), ("world_weight", -1.0)):
        with pytest.raises(
            UsageError, match=r"Fine-tuning on .* is impossible: episodes and stride must be at least 1"
        ):
            replace(FinetuneConfig(game="Pong"), **{field: value})
    for field in ("segments", "every", "capacity", "width", "horizon"):
        with pytest.raises(UsageError, match=f"Imagination with .*{field} 0.* is impossible"):
            ImagineConfig(**{field: 0})


def test_parts_and_kept_checkpoints_have_keys_of_their_own() -> None:
    plain = FinetuneConfig(game="Pong")
    parts = replace(plain, phases=tuple(replace(phase, accumulate=2) for phase in plain.phases))
    kept = replace(plain, loop=LoopConfig(checkpoint_every=5, evaluate_every=10))
    assert len({config.spec().ref.key for config in (plain, parts, kept)}) == 3
