"""IRIS's world model on whole segments: recorded numbers at full size, and what it may and may not see."""

from dataclasses import replace

import pytest
import torch

from models.api import Batch, rows_of
from models.iris.config import WorldModelConfig
from models.iris.loss import world_model_counts, world_model_loss
from models.iris.world_model import Outputs, TokenWorldModel, WorldModel
from tests.models.iris import hashed
from tests.models.iris.hashed import FACTS, STEPS, agrees, whole_numbers

HEADS = ("observations_BSV", "rewards_BTV", "ends_BT2")


@pytest.fixture(scope="module")
def batch() -> Batch:
    ends_BT, mask_BT = torch.zeros(2, STEPS), torch.ones(2, STEPS, dtype=torch.bool)
    ends_BT[1, 14], mask_BT[1, 15:] = 1, False
    return Batch(
        actions_BT=whole_numbers((2, STEPS), 5002, 4),
        rewards_BT=whole_numbers((2, STEPS), 5003, 5).float() - 2,
        ends_BT=ends_BT,
        mask_BT=mask_BT,
        games_B=torch.zeros(2, dtype=torch.long),
        tokens_BTK=whole_numbers((2, STEPS, 16), 5004, 512),
    )


@pytest.fixture(scope="module")
def outputs(batch: Batch) -> Outputs:
    assert batch.tokens_BTK is not None
    with torch.no_grad():
        return hashed.world_model()(batch.tokens_BTK, batch.actions_BT)


def test_outputs_are_the_recorded_ones(outputs: Outputs) -> None:
    assert agrees(outputs.hidden_BLD, FACTS["wm_out_seq"], 1e-5)
    assert agrees(outputs.observations_BSV, FACTS["wm_logits_obs"], 1e-5)
    assert agrees(outputs.rewards_BTV, FACTS["wm_logits_rew"], 1e-5)
    assert agrees(outputs.ends_BT2, FACTS["wm_logits_end"], 1e-5)


def test_losses_are_the_recorded_ones_and_padding_is_ignored(outputs: Outputs, batch: Batch) -> None:
    losses = world_model_loss(outputs, batch, world_model_counts(batch, WorldModelConfig()))
    recorded = FACTS["wm_losses_eval"]
    assert float(losses.terms["observations"]) == pytest.approx(recorded["loss_obs"], abs=2e-6)
    assert float(losses.terms["rewards"]) == pytest.approx(recorded["loss_rewards"], abs=2e-6)
    assert float(losses.terms["ends"]) == pytest.approx(recorded["loss_ends"], abs=2e-6)
    assert float(losses.total) == pytest.approx(sum(recorded.values()), abs=1e-5)
    assert world_model_counts(batch, WorldModelConfig()).tolist() == [319 + 239, 35]


def test_rows_tell_what_each_segment_lost_as_if_it_were_alone(outputs: Outputs, batch: Batch) -> None:
    rows_B = world_model_loss(outputs, batch, world_model_counts(batch, WorldModelConfig())).rows_B
    assert rows_B is not None and rows_B.shape == (2,) and not rows_B.requires_grad
    for row in range(2):
        part = rows_of(batch, slice(row, row + 1))
        mine = replace(outputs, **{name: each[row : row + 1] for name, each in vars(outputs).items() if name in HEADS})
        alone = world_model_loss(mine, part, world_model_counts(part, WorldModelConfig())).terms
        assert float(rows_B[row]) == pytest.approx(float(alone["observations"] + alone["rewards"]), abs=1e-5)


def test_no_token_sees_a_later_one_and_each_sees_all_before() -> None:
    model = WorldModel(WorldModelConfig(32, 4, 3, 2, 2, 16, 0.0, 5), seed=1).eval()
    tokens_1TK, actions_1T = whole_numbers((1, 3, 4), 7, 32), whole_numbers((1, 3), 8, 5)
    changed = actions_1T.clone()
    changed[0, 1] = (changed[0, 1] + 1) % 5
    with torch.no_grad():
        before, after = (model(tokens_1TK, actions).hidden_BLD[0] for actions in (actions_1T, changed))
    differs = (before != after).any(1).tolist()
    assert differs == [False] * 9 + [True] * 6  # from the action of the second step on


def test_a_segment_longer_than_its_positions_or_of_other_tokens_is_refused() -> None:
    model = WorldModel(WorldModelConfig(32, 4, 3, 1, 2, 16, 0.0, 5))
    for shape in ((1, 4, 4), (1, 3, 5)):
        with pytest.raises(ValueError, match="do not fit a world model of 3 steps of 4"):
            model(torch.zeros(shape, dtype=torch.long), torch.zeros(shape[:2], dtype=torch.long))


def test_what_remembers_nothing_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TokenWorldModel(WorldModelConfig())  # type: ignore[abstract]


def test_first_weights_depend_on_the_seed_alone() -> None:
    config = WorldModelConfig(32, 4, 3, 1, 2, 16)
    same, again, other = (WorldModel(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(each, again[name]) for name, each in same.items())
    assert not torch.equal(same["pos_emb.weight"], other["pos_emb.weight"])
    assert not same["head_ends.head_module.2.bias"].any()
