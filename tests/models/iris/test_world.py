"""Playing inside IRIS's world model: its cache, when it forgets, and it as a `models.api.WorldModel`."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.api import Context, Remembered
from models.iris.config import WorldModelConfig
from models.iris.world import TokenPlayer, new_world_model, player_of
from models.iris.world_model import WorldModel
from models.practice.draws import Given, likeliest
from models.practice.world import PlayedWorld
from tests.models.iris import hashed
from tests.models.iris.hashed import FACTS, whole_numbers

SMALL = WorldModelConfig(32, 4, 3, 2, 2, 16, 0.0, 5)


@pytest.fixture
def model() -> WorldModel:
    return WorldModel(SMALL, seed=1).eval()


def sizes(player: TokenPlayer, steps: int, rows: int, last: bool = False) -> list[int]:
    """The cache's after a reset and after every step; the last one may want no next frame."""
    config = player.model.config
    player.reset(torch.zeros(rows, config.tokens_per_frame, dtype=torch.long))
    found = [player.memory.length]
    for step in range(steps):
        actions_N = torch.zeros(rows, dtype=torch.long)
        player.step(actions_N, likeliest, observe=not last or step < steps - 1)
        found.append(player.memory.length)
    return found


def test_the_cache_fills_to_339_tokens_and_is_rebuilt_in_the_20th_step() -> None:
    tiny = WorldModel(WorldModelConfig(8, 16, 20, 1, 1, 4, 0.0, 2)).eval()
    assert sizes(TokenPlayer(tiny), 21, 1) == FACTS["kv_sizes_play"]
    assert sizes(TokenPlayer(tiny), 20, 3, last=True)[-2:] == [339, 340]  # a horizon of 20 just fits


def test_three_steps_of_what_is_likeliest_are_the_recorded_ones() -> None:
    tokenizer, player = hashed.tokenizer(), TokenPlayer(hashed.world_model())
    tokens_NK = tokenizer.encode_tokens(hashed.frames()[:, 0])
    assert float(tokenizer.decode_tokens(tokens_NK).mean()) == pytest.approx(FACTS["reset_obs_mean"], abs=2e-6)
    player.reset(tokens_NK)
    for fact in FACTS["greedy_rollout_actions_1_2"]:
        step = player.step(torch.tensor([1, 2]), likeliest)
        assert step.tokens_NK is not None and step.tokens_NK.tolist() == fact["tokens"]
        assert step.rewards_N.tolist() == fact["reward"] and step.ends_N.tolist() == fact["done"]
        assert float(tokenizer.decode_tokens(step.tokens_NK).mean()) == pytest.approx(fact["frame_mean"], abs=2e-6)


def test_step_by_step_gives_what_whole_segments_give(model: WorldModel) -> None:
    tokens_NTK, actions_NT = whole_numbers((2, 3, 4), 7, 32), whole_numbers((2, 3), 8, 5)
    player, zeros_N = TokenPlayer(model), torch.zeros(2, dtype=torch.long)
    tokens = [frame_NK[:, place] for frame_NK in tokens_NTK[:, 1:].unbind(1) for place in range(4)]
    given = Given(rewards=[zeros_N] * 3, ends=[zeros_N] * 3, tokens=tokens)
    player.reset(tokens_NTK[:, 0])
    for step in range(3):
        player.step(actions_NT[:, step], given, observe=step < 2)
    with torch.no_grad():
        whole = model(tokens_NTK, actions_NT)
    assert torch.allclose(torch.stack(given.logits["tokens"], 1), whole.observations_BSV[:, 3:-1], atol=1e-5)
    assert torch.allclose(torch.stack(given.logits["rewards"], 1), whole.rewards_BTV, atol=1e-5)
    assert torch.allclose(torch.stack(given.logits["ends"], 1), whole.ends_BT2, atol=1e-5)


def test_after_a_rebuild_only_the_current_frame_is_known(model: WorldModel) -> None:
    """Two pasts that end in the same frame differ before the cache is full, and not after."""

    def rewards(first: int) -> list[Tensor]:
        player, zeros_N = TokenPlayer(model), torch.zeros(1, dtype=torch.long)
        given = Given(rewards=[zeros_N] * 3, ends=[zeros_N] * 3, tokens=[zeros_N + 3] * 12)
        player.reset(torch.full((1, 4), first))
        for _ in range(3):
            player.step(zeros_N, given)
        return given.logits["rewards"]

    ours, theirs = rewards(1), rewards(2)
    assert [torch.equal(*pair) for pair in zip(ours, theirs, strict=True)] == [False, False, True]


@pytest.mark.parametrize("frames", range(1, 8))
@pytest.mark.parametrize("kind", ["transformer", "ncp_tokens", "ncp_frames"])
def test_a_context_is_read_in_one_pass_as_if_it_had_been_imagined(kind: str, frames: int) -> None:
    """Up to three times as many frames as fit, each kind of network, in the steps behind them too."""
    config = SMALL if kind == "transformer" else replace(SMALL, kind=kind, units=70, width=8)
    model = new_world_model(config, seed=1).eval().double()
    tokens_NCK, actions_NS = whole_numbers((2, frames + 4, 4), 7, 32), whole_numbers((2, frames + 3), 8, 5)
    zeros_N = torch.zeros(2, dtype=torch.long)

    def said(behind: int) -> tuple[list[Remembered], dict[str, list[Tensor]]]:
        """What the last four of all steps draw from, where `behind` of the frames are the context."""
        tokens = list(tokens_NCK[:, behind:].flatten(1).unbind(1))
        given = Given(rewards=[zeros_N] * len(tokens), ends=[zeros_N] * len(tokens), tokens=tokens)
        world, found = PlayedWorld(player_of(model), given), []
        here = world.reset(Context(tokens_NCK[:, :behind], actions_NS[:, : behind - 1], zeros_N))
        assert torch.equal(here.tokens_NK, tokens_NCK[:, behind - 1]) and not here.ends_N.any()
        assert world.remembered.passes == (0 if kind == "ncp_frames" and behind == 1 else 1)
        for actions_N in actions_NS[:, behind - 1 :].unbind(1):
            step = world.step(actions_N)
            assert step.values_NA.shape == (2, 0)
            found.append(world.remembered)
        return found[-4:], given.logits

    (at_once, ours), (one_by_one, theirs) = said(behind=frames), said(behind=1)
    assert at_once == one_by_one
    for what, logits in ours.items():
        assert len(logits) in (4, 16)
        difference = torch.stack(logits) - torch.stack(theirs[what][-len(logits) :])
        assert float(difference.abs().max()) < 1e-12


def test_what_it_cannot_do_is_refused(model: WorldModel) -> None:
    player, world = TokenPlayer(model), PlayedWorld(TokenPlayer(model))
    with pytest.raises(ValueError, match="reset it first"):
        player.step(torch.zeros(1, dtype=torch.long), likeliest)
    with pytest.raises(ValueError, match="no frames of 4 tokens"):
        player.reset(torch.zeros(1, 5, dtype=torch.long))
    context = Context(torch.zeros(2, 1, 4).long(), torch.zeros(2, 0).long(), torch.zeros(2).long())
    world.reset(context)
    for actions, parents in ((torch.zeros(4).long(), None), (torch.zeros(2).long(), torch.tensor([0, 1]))):
        with pytest.raises(ValueError, match="goes on from its newest step alone"):
            world.step(actions, parents)


# ---- dreams ----


def test_a_dream_is_the_players_imagination_teacher_forced(model: WorldModel) -> None:
    """Given the same classes, both draw from equal logits, beyond the step in which all is forgotten."""
    actions, zeros_N = [torch.tensor([step % 5]) for step in range(7)], torch.zeros(1, dtype=torch.long)
    tokens = list(whole_numbers((28,), 9, 32).view(-1, 1))
    ours, theirs = (Given(rewards=[zeros_N] * 7, ends=[zeros_N] * 7, tokens=tokens) for _ in range(2))
    dream, player = PlayedWorld(TokenPlayer(model), ours), TokenPlayer(model)
    frame_1K = whole_numbers((1, 4), 3, 32)
    dream.reset(Context(frame_1K[:, None], zeros_N[:, None][:, :0], zeros_N))
    player.reset(frame_1K)
    for action in actions:
        dream.step(action)
        player.step(action, theirs)
    for what in ("rewards", "ends", "tokens"):
        assert torch.allclose(torch.stack(ours.logits[what]), torch.stack(theirs.logits[what]), atol=1e-5), what


@pytest.mark.parametrize("kind", ["ncp_tokens", "ncp_frames"])
def test_a_circuits_dream_forgets_nothing_by_force(kind: str) -> None:
    config = replace(SMALL, kind=kind, units=60 if kind == "ncp_tokens" else 70, width=8)
    dream, zeros_1 = PlayedWorld(player_of(new_world_model(config).eval())), torch.zeros(1, dtype=torch.long)
    dream.reset(Context(whole_numbers((1, 1, 4), 3, 32), zeros_1[:, None][:, :0], zeros_1))
    assert dream.remembered.steps == 1
    for step in range(1, 6):
        dream.step(zeros_1)
        passes = 5 if kind == "ncp_tokens" else 1
        assert dream.remembered == Remembered(steps=step + 1, most=0, forgot="", passes=passes)


def test_a_dream_says_when_it_forgot_all_but_the_frame_before(model: WorldModel) -> None:
    zeros_1 = torch.zeros(1, dtype=torch.long)
    dream = PlayedWorld(TokenPlayer(model))
    dream.reset(Context(whole_numbers((1, 1, 4), 3, 32), zeros_1[:, None][:, :0], zeros_1))
    found = []
    for _ in range(5):
        dream.step(zeros_1)
        found.append(dream.remembered)
    assert [(each.steps, each.forgot, each.passes) for each in found] == [
        (2, "", 5), (3, "", 5), (2, "flush", 6), (3, "", 5), (2, "flush", 6)
    ]  # fmt: skip
    assert {each.most for each in found} == {3}
