"""Figures of a toy game by hand on held-out frames, sheets row by row, and greedy play that leaves no trace."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Imagined
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from pipelines.batches.loader import SegmentSource
from pipelines.environments.registry import game_id
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.training import diagnostics as sheets
from pipelines.training.device import Device
from pipelines.training.diagnostics import PLAY_CONTEXT, Sight, last_pairs, mean_returns, measure, summary
from pipelines.training.distributed.ranks import ALONE
from pipelines.training.inputs import mean_frame, sources
from pipelines.training.schedule import LoopConfig
from tests.pipelines.training import toy_run
from tests.pipelines.training.toy_game import GAME, ToyAgent, ToyWorld, make_game
from tests.pipelines.training.toy_run import MODEL, TOKENIZER

CPU = Device("cpu", False)
AGENT = ("agent.json", "model.safetensors", "tokenizer.safetensors")
LOOP = LoopConfig(evaluate_episodes=2, evaluate_steps=6)


def source_of(store: Store, cache: Path, *lengths: int, holdout: int = 1) -> SegmentSource:
    data, cut = make_game(store, *lengths)
    return sources([data], [cut], holdout, [], cache)[0]


def test_every_figure_by_hand(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10, 10, 10)
    pairs = last_pairs(source, 1, 100, 4, seed=0)
    found = measure(ToyAgent(), ToyWorld(rise=4), source, pairs, 1, CPU)
    assert found.codes_used == 6  # next frames at steps 4..9, brightness 8, 10, ... 18
    assert found.perplexity == pytest.approx(6.0)
    assert found.changed_share == 0.5  # the left half
    assert found.reconstruction_error == pytest.approx(3.0, abs=1e-4)  # the tokenizer's bias
    assert found.mean_frame_error == pytest.approx((1 + 1 + 3 + 5 + 7 + 9) / 6)  # from 9, the mean of 0, 2, ... 18
    assert found.next_frame_error == pytest.approx(4 + 3 - 2, abs=1e-4)  # rises by 4 and bias, truly by 2
    assert found.copy_last_error == 2.0
    assert not found.beats_baselines
    assert measure(ToyAgent(), ToyWorld(rise=0), source, pairs, 1, CPU).beats_baselines  # 0 + 3 - 2 is below 2


def test_windows_are_real_context_with_the_actions_taken(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10, 10, 12)
    world = ToyWorld(rise=0)
    pairs = last_pairs(source, 1, 100, 4, seed=0)
    measure(ToyAgent(), world, source, pairs, 1, CPU)
    (context,) = world.contexts
    assert context.tokens_NCK[..., 0].tolist() == [[2 * (first + step) for step in range(4)] for first in range(8)]
    actions = torch.as_tensor(source.actions[20:].astype(np.int64)).unfold(0, 4, 1)[:8]
    assert torch.equal(context.actions_NC, actions[:, :3])
    assert torch.equal(world.actions[0], actions[:, 3])
    assert set(context.games_N.tolist()) == {game_id(GAME)}


class Told(ToyWorld):
    """Tells a reward, by how bright the frame is at which the action was done, and that every step ends the game."""

    def __init__(self, rewards: Mapping[int, float]) -> None:
        super().__init__(rise=0)
        self.rewards = rewards

    def step(self, actions_N: Tensor, parents_M: Tensor | None = None) -> Imagined:
        here = super().step(actions_N, parents_M)
        told_N = [self.rewards.get(int(bright), 0.0) for bright in self.newest_NK[:, 0]]
        return replace(here, rewards_N=torch.tensor(told_N), ends_N=torch.ones_like(here.ends_N))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("points", "found"), [(1.0, 0.5), (1e-42, 1.0)], ids=["whole", "the least there are"])
def test_rewards_and_ends_a_step_ahead_by_hand(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: float, found: float
) -> None:
    source = source_of(store, tmp_path, 10, 10, 10)
    rewards, ends = np.zeros(30, np.float32), np.zeros(30, np.uint8)
    rewards[[24, 26, 5]], ends[29] = (3.0, points, 9.0), 1  # that of step 5 is not held out
    monkeypatch.setattr(source.trajectories, "rewards", rewards)
    monkeypatch.setattr(source.trajectories, "terminals", ends)
    agent = ToyAgent()
    monkeypatch.setattr(agent, "world", lambda: Told({8: 3.0, 12: 0.4, 16: 2.0}))  # of steps 4, 6 and 8
    seen = len(range(PLAY_CONTEXT - 1, 10))
    assert sheets.foresight(agent, source, 1, CPU) == {
        "reward_found": found,  # 0.4 of a point is none where the least is 1
        "reward_invented": pytest.approx(1 / (seen - 2), abs=1e-4),
        "end_found": 1.0,
        "end_invented": 1.0,
    }


def test_windows_lie_within_one_held_out_episode(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 30, 9, 5, 6, holdout=3)
    pairs = last_pairs(source, 3, 100, 4, seed=0)
    assert pairs.next_PHW[:, 0, 0].tolist() == [8, 10, 12, 14, 16, 8, 8, 10]
    assert (np.diff(pairs.context_PCHW[..., 0, 0].astype(int), axis=1) == 2).all()


def test_a_sample_of_the_windows_depends_on_the_seed_alone(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10, 60)
    one, again, other = (last_pairs(source, 1, 9, 4, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.next_PHW, again.next_PHW)
    assert not np.array_equal(one.next_PHW, other.next_PHW)
    assert len(one.next_PHW) == 9
    assert len(np.unique(one.next_PHW[:, 0, 0])) == 9


def test_the_mean_frame_knows_nothing_of_held_out_play(store: Store, tmp_path: Path) -> None:
    found = mean_frame(source_of(store, tmp_path, 10, 10, 100))
    assert found.dtype == np.float32
    assert (found[:, :42] == 9).all()
    assert (found[:, 42:] == 50).all()


def test_a_single_episode_is_measured_on_itself(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 10)
    assert len(last_pairs(source, 0, 100, 4, seed=0).next_PHW) == 6


def test_held_out_episodes_that_are_too_short_are_named(store: Store, tmp_path: Path) -> None:
    source = source_of(store, tmp_path, 30, 4, 3, holdout=2)
    with pytest.raises(
        WorldlineError, match=r"last episodes of Freeway have \[4, 3\] steps, .* windows of 5: raise loop"
    ):
        last_pairs(source, 2, 100, 4, seed=0)


def test_summary_says_the_numbers_and_passes_only_when_all_games_do() -> None:
    good = Sight(40, 38.4, 0.02, 3.0, 9.0, 4.0, 8.0, 1)
    blind = Sight(8, 6.6, 0.02, 9.5, 9.0, 4.0, 8.0, 1)
    assert summary({"Pong": good}) == (
        True,
        "Pong: reconstruction 3.0 against mean frame 9.0, next frame 4.0 against copy 8.0, code perplexity 38, "
        "measured on 1 held-out episode",
    )
    assert summary({"Pong": replace(good, held_out_episodes=0)})[1].endswith(
        "measured on frames that were learned from (no episode is held out)"
    )
    passed, detail = summary({"Pong": good, "Boxing": blind})
    assert not passed
    assert "Boxing: reconstruction 9.5 against mean frame 9.0" in detail
    assert Sight(1, 1.23456, 0.1, 1, 2, 3, 3, 0).to_metrics()["perplexity"] == 1.2346
    assert Sight(1, 1.2, 0.1, 1, 2, 3, 3, 0).to_metrics()["held_out_episodes"] == 0
    assert not Sight(1, 1.0, 0.1, 1, 2, 3, 3, 0).beats_baselines


def test_every_row_of_a_toy_game(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, NDArray[np.uint8]] = {}
    titles: list[str] = []

    def draw(rows: dict[str, NDArray[np.uint8]], path: Path, title: str) -> None:
        drawn.update(rows)
        titles.append(title)

    monkeypatch.setattr(sheets.pictures, "draw_sheet", draw)
    data, cut = make_game(store, 10, 8)
    (source,) = sources([data], [cut], 1, [], tmp_path)
    world = ToyWorld(rise=10)
    sheets.draw_sheet(tmp_path / "sheet.png", ToyAgent(), world, source, 1, 8, Device("cpu", False))
    left = {name: row[:, 0, 0].tolist() for name, row in drawn.items()}
    assert left == {
        "original": [0, 2, 4, 6, 8, 10, 12, 14],
        "reconstruction": [3, 5, 7, 9, 11, 13, 15, 17],
        "one step ahead": [0, 13, 15, 17, 19, 21, 23, 25],  # last real frame + 10, and the tokenizer's bias of 3
        "free running from 4 steps": [0, 0, 0, 0, 19, 29, 39, 49],  # from real step 3, brightness 6
    }
    assert titles == [f"{GAME}, held-out play"]
    assert [context.tokens_NCK.shape[1] for context in world.contexts] == [1, 2, 3, 4, 5, 6, 7, 4]


def test_the_picture_is_written(store: Store, tmp_path: Path) -> None:
    data, cut = make_game(store, 10, 10)
    (source,) = sources([data], [cut], 1, [], tmp_path)
    path = tmp_path / "sheet.png"
    sheets.draw_sheet(path, ToyAgent(), ToyWorld(rise=2), source, 1, 8, Device("cpu", False))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_play_repeats_and_leaves_modes_and_random_numbers() -> None:
    agent = JowaAgent(JowaAgentConfig(tokenizer=TOKENIZER, model=MODEL))
    model, tokenizer = agent.model.train(), agent.tokenizer.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [mean_returns(agent, ("Pong", "Breakout"), LOOP, Device("cpu", False), ALONE) for _ in "ab"]
    assert found[0] == found[1]
    assert list(found[0]) == ["Pong", "Breakout"]
    assert torch.equal(torch.get_rng_state(), before)
    assert (model.training, tokenizer.training) == (True, False)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.slow
def test_checkpoints_are_played_listed_and_change_no_weight(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plain = toy_run.run(tmp_path / "plain", {})["trained"]
    loop = {"checkpoint_every": 4, "evaluate_every": 6, "evaluate_episodes": 2, "evaluate_steps": 5, "keep_last": 2}
    options = {"loop": loop, "stage": "train"}
    played = toy_run.run(tmp_path / "played", options)["trained"]
    assert played.path("model.safetensors").read_bytes() == plain.path("model.safetensors").read_bytes()
    assert {name for name in played.names() if name.startswith("checkpoints")} == {
        "checkpoints/index.json",
        *(f"checkpoints/step-{step}/{name}" for step in (6, 8, 12) for name in AGENT),
    }
    last = played.path("checkpoints/step-12/model.safetensors")
    assert last.read_bytes() == played.path("model.safetensors").read_bytes()
