from dataclasses import replace

import pytest
import torch

from models.api import Batch, Context


def test_batch_refuses_shapes_that_disagree(batch: Batch) -> None:
    with pytest.raises(ValueError, match="rewards_BT has shape"):
        replace(batch, rewards_BT=batch.rewards_BT[:, :-1])
    with pytest.raises(ValueError, match="games_B"):
        replace(batch, games_B=batch.games_B[:-1])
    with pytest.raises(ValueError, match="must be bool"):
        replace(batch, mask_BT=batch.mask_BT.long())
    with pytest.raises(ValueError, match="segments, steps"):
        replace(batch, actions_BT=batch.actions_BT[0])


def test_batch_moves_with_all_its_tensors(batch: Batch) -> None:
    moved = batch.to("meta")
    assert moved.tokens_BTK is not None and moved.tokens_BTK.is_meta and moved.games_B.is_meta
    assert moved.frames_uint8_BTHW is None


def test_context_keeps_its_newest_steps_and_the_actions_between() -> None:
    context = Context(torch.arange(24).reshape(2, 4, 3), torch.arange(6).reshape(2, 3), torch.tensor([0, 1]))
    newest = context.last(2)
    assert newest.tokens_NCK.tolist() == context.tokens_NCK[:, 2:].tolist()
    assert newest.actions_NC.tolist() == [[2], [5]]
    assert context.last(9).tokens_NCK.shape == (2, 4, 3)
    with pytest.raises(ValueError, match="needs actions"):
        Context(context.tokens_NCK, context.actions_NC[:, 1:], context.games_N)
