"""Both sides of the benchmark compute the same thing, or their ratio says nothing."""

import pytest
import torch

from models.jowa.loss import sequence
from models.jowa.model import Jowa
from models.tokenizers.vq import Tokenizer
from pipelines.tools.bench import train, train_plain
from pipelines.tools.bench.train import QUICK


def test_both_sides_have_the_same_logits() -> None:
    model, batch = Jowa(QUICK.model).eval(), train.random_batch(QUICK.model, 2)
    tokens = sequence(batch)
    ours, theirs = (
        one(tokens, batch.games_B) for one in (model, train_plain.plain(model, model.config.max_tokens).eval())
    )
    for name, logits in ours.logits.items():
        torch.testing.assert_close(logits, theirs.logits[name], atol=1e-5, rtol=1e-4)


def test_both_sides_encode_the_same_tokens() -> None:
    tokenizer = Tokenizer(QUICK.tokenizer).eval()
    frames = torch.randint(0, 256, (70, 84, 84), dtype=torch.uint8)
    assert (tokenizer.encode_tokens(frames[:, None]) == train_plain.encode(tokenizer, frames)).float().mean() > 0.999


@pytest.mark.slow
def test_every_row_is_measured() -> None:
    rows = train.run(QUICK)
    assert [row.name for row in rows] == ["step", "step-bf16", "encode", "encode-bf16"]
    assert [row.aim for row in rows] == [1.5, 3, 1, 4] and all(row.ratio > 0 for row in rows)
