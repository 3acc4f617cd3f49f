"""REM's world model: what its predictions see, what learns, and what is learned from."""

from dataclasses import replace

import pytest
import torch

from models.api import Batch
from models.practice.blocks import learned, learned_counts
from models.practice.loss import token_world_loss
from models.rem.config import RemConfig, WorldModelConfig
from models.rem.world_model import WorldModel
from tests.models.rem.small_rem import CONFIG, STEPS, world

K, V, A = 16, 16, 5
CODES = torch.randn(V, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def model_of(config: RemConfig = CONFIG) -> WorldModel:
    return WorldModel(config.world_model, config.tokenizer, seed=2).double().eval()


def tokens_and_actions(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    tokens = torch.randint(V, (rows, STEPS, K), generator=draws)
    return tokens, torch.randint(A, (rows, STEPS), generator=draws)


def test_at_full_size_it_has_the_originals_parameters_and_decays_its_matrices() -> None:
    full = RemConfig(actions=(0, 1, 2, 3))
    model = WorldModel(full.world_model, full.tokenizer)
    assert sum(each.numel() for each in model.parameters()) == 4_756_997


@torch.no_grad()
@pytest.mark.parametrize("pop", [True, False])
def test_a_token_is_seen_by_later_predictions_alone(pop: bool) -> None:
    model, (tokens, actions) = model_of(world(pop=pop)), tokens_and_actions()
    plain, other = model(tokens, actions, CODES), tokens.clone()
    other[:, 2, 7] = (other[:, 2, 7] + 5) % V
    moved = model(other, actions, CODES)
    places_TK = (plain.observations_BSV - moved.observations_BSV).abs().amax((0, 2)).view(STEPS, K) > 1e-9
    steps_T = (plain.rewards_BTV - moved.rewards_BTV).abs().amax((0, 2)) > 1e-9
    assert steps_T.tolist() == [False, False, True, True, True]
    assert not places_TK[:2].any() and bool(places_TK[3:].all())
    # Without POP, later tokens of the same frame see it too, which is what the ablation is about.
    assert places_TK[2].tolist() == ([False] * K if pop else [False] * 8 + [True] * 8)
    other = actions.clone()
    other[:, 1] = (other[:, 1] + 1) % A
    moved = model(tokens, other, CODES)
    places_TK = (plain.observations_BSV - moved.observations_BSV).abs().amax((0, 2)).view(STEPS, K) > 1e-9
    assert not places_TK[:2].any() and bool(places_TK[2:].all())


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_reach_what_is_used_and_never_the_codes(shared: bool) -> None:
    model, (tokens, actions) = model_of(world(shared_embeddings=shared)), tokens_and_actions()
    codes = CODES.clone().requires_grad_()
    outputs = model(tokens, actions, codes)
    (outputs.observations_BSV.square().sum() + outputs.ends_BT2.square().sum()).backward()
    assert codes.grad is None
    rows = model.embedding.weight.grad.abs().sum(1) > 0
    done = torch.zeros(A, dtype=torch.bool).index_fill(0, actions.flatten(), True)
    assert torch.equal(rows[V : V + A], done) and not rows[-1] and bool(rows[:V].any()) is not shared
    assert (model.placeholder_embeddings.weight.grad.abs().sum(1) > 0).tolist() == [True] * K + [False]


def test_one_prediction_token_may_stand_for_all_places() -> None:
    model, (tokens, actions) = model_of(world(shared_prediction_token=True)), tokens_and_actions()
    model(tokens, actions, CODES).observations_BSV.square().sum().backward()
    assert (model.placeholder_embeddings.weight.grad.abs().sum(1) > 0).tolist() == [True] + [False] * K


def test_how_many_blocks_are_read_together_changes_nothing() -> None:
    tokens, actions = tokens_and_actions()
    found = [model_of(world(blocks_per_chunk=each))(tokens, actions, CODES).hidden_BLD for each in (1, 2, 3, 9)]
    assert all(float((each - found[0]).abs().max()) < 1e-12 for each in found)


def batch_of_two() -> Batch:
    """Ten blocks of 64 tokens, four of them padding in one row."""
    mask_BT = torch.ones(2, 10, dtype=torch.bool)
    mask_BT[1, 6:] = False
    zeros_BT = torch.zeros(2, 10)
    return Batch(
        actions_BT=zeros_BT.long(),
        rewards_BT=zeros_BT,
        ends_BT=zeros_BT,
        mask_BT=mask_BT,
        games_B=torch.zeros(2).long(),
        tokens_BTK=torch.randint(512, (2, 10, 64), generator=torch.Generator().manual_seed(0)),
    )


def test_context_and_padding_are_not_learned_from_and_a_fresh_model_knows_nothing() -> None:
    config, batch = RemConfig(), batch_of_two()
    counts = learned_counts(batch, 2, 64)
    assert counts.tolist() == [768, 12]
    model = WorldModel(config.world_model, config.tokenizer).eval()
    codes = torch.zeros(512, 256).uniform_(-1 / 512, 1 / 512)
    with torch.no_grad():
        outputs = model(batch.tokens_BTK, batch.actions_BT, codes)
    losses = token_world_loss(outputs, batch, learned(batch, 2), counts)
    assert 6 < float(losses.terms["observations"]) < 7
    outputs.rewards_BTV[:, :2] += 100 * torch.tensor([1.0, -1, 0])
    outputs.observations_BSV[:, : 2 * 64] = torch.nan
    outputs.ends_BT2[1, 6:] = torch.inf
    again = token_world_loss(outputs, batch, learned(batch, 2), counts)
    assert torch.equal(again.total, losses.total) and again.rows_B is not None and bool(again.rows_B.isfinite().all())


def test_segments_and_sizes_that_do_not_fit_are_refused() -> None:
    tokens, actions = tokens_and_actions()
    with pytest.raises(ValueError, match=r"Segments of 10 steps of 16 tokens do not fit .* 5 steps of 16: cut them"):
        model_of()(torch.cat([tokens, tokens], dim=1), torch.cat([actions, actions], dim=1), CODES)
    with pytest.raises(ValueError, match="Width 256 in 5 heads: give heads of a multiple of 8"):
        WorldModelConfig(heads=5)
    with pytest.raises(ValueError, match="shared_prediction_token True has no effect without prediction tokens"):
        WorldModelConfig(pop=False, shared_prediction_token=True)
    with pytest.raises(ValueError, match=r"context 10 leaves none of 10 blocks to learn: lower it"):
        WorldModelConfig(context=10)
    with pytest.raises(ValueError, match=r"embed_dim 16 cannot be read by a world model of width 32"):
        world(width=32).require_fit(STEPS)
    with pytest.raises(ValueError, match=r"horizon 5 is to hold a context of 2 .*max_steps 4: give 3 to 4"):
        world(max_steps=4).require_fit(STEPS)
    replace(world(width=32), world_model=replace(world(width=32).world_model, shared_embeddings=False)).require_fit(5)
