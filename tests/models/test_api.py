from dataclasses import replace

import pytest
import torch

from models.api import Batch, Context, mixed


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
    assert moved.frames_BTCHW is None


def test_context_keeps_its_newest_steps_and_the_actions_between() -> None:
    context = Context(torch.arange(24).reshape(2, 4, 3), torch.arange(6).reshape(2, 3), torch.tensor([0, 1]))
    newest = context.last(2)
    assert newest.tokens_NCK.tolist() == context.tokens_NCK[:, 2:].tolist()
    assert newest.actions_NC.tolist() == [[2], [5]]
    assert context.last(9).tokens_NCK.shape == (2, 4, 3)
    with pytest.raises(ValueError, match="needs actions"):
        Context(context.tokens_NCK, context.actions_NC[:, 1:], context.games_N)


def test_imagined_segments_are_marked_and_come_last(batch: Batch) -> None:
    both = mixed(batch, replace(batch, games_B=batch.games_B + 1))
    assert both.imagined_B is not None and both.imagined_B.tolist() == [False] * 3 + [True] * 3
    assert both.games_B.tolist() == [0, 2, 1, 1, 3, 2]
    assert torch.equal(both.real_mask(), torch.cat([batch.mask_BT, torch.zeros_like(batch.mask_BT)]))
    assert torch.equal(batch.real_mask(), batch.mask_BT)


def test_batches_that_do_not_mix_are_refused(batch: Batch) -> None:
    frames = replace(batch, tokens_BTK=None, frames_BTCHW=torch.zeros(3, 5, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="One batch has frames"):
        mixed(batch, frames)
    shorter = Batch(
        actions_BT=batch.actions_BT[:, :2],
        rewards_BT=batch.rewards_BT[:, :2],
        ends_BT=batch.ends_BT[:, :2],
        mask_BT=batch.mask_BT[:, :2],
        games_B=batch.games_B,
    )
    with pytest.raises(ValueError, match="5 and 2 steps"):
        mixed(batch, shorter)
    with pytest.raises(ValueError, match=r"imagined_B is torch\.int64"):
        replace(batch, imagined_B=torch.zeros(3, dtype=torch.long))
