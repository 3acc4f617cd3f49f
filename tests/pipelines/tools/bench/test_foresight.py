"""What world models foresee: rows and paths of held-out episodes, states in which actions matter, and who is right."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.jowa.agent import JowaAgent
from models.jowa.model import Jowa
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.environments.registry import game_id, protocol
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
from pipelines.errors import UsageError
from pipelines.evaluation.look_ahead import Looker, Seen, watched_game
from pipelines.tools.bench.foresight import learned, main
from pipelines.tools.bench.foresight_judge import AHEAD, Crossroads, HeldOut, crossroads, held_out, imagined
from pipelines.training.device import Device
from tests.models.jowa.test_agent import CONFIG
from tests.pipelines.conftest import TinyRun

CPU, GAME, LENGTHS = Device("cpu", False), "Boxing", (40, 30, 30, 30)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SegmentSource:
    """Four episodes; every seventh step brings or costs a point; a row's tokens are its number."""
    file, rows = tmp_path_factory.mktemp("data") / "episodes.h5", sum(LENGTHS)
    rewards = np.where(np.arange(rows) % 7 == 0, np.where(np.arange(rows) % 2, 1.0, -1.0), 0.0).astype(np.float32)
    with TrajectoryWriter(file, GAME, [str(number) for number in range(18)], LENGTHS) as writer:
        writer.write("observations", 0, np.zeros((rows, 84, 84), np.uint8))
        writer.write("actions", 0, (np.arange(rows) % 18).astype(np.uint8))
        writer.write("rewards", 0, rewards)
    data = Trajectories(file)
    tokens = np.repeat(np.arange(rows)[:, None] % 16, 36, 1).astype(np.uint16)
    return SegmentSource(data, Segmentation(data.episode_starts, 8, 4, "right").first_episodes(2), tokens)


@pytest.fixture(scope="module")
def judge(source: SegmentSource) -> HeldOut:
    """With crossroads whose contexts are the first three paths'."""
    looker = Looker(JowaAgent(CONFIG), GAME, 4, horizon=AHEAD)
    tokens_SCK, actions_SC = torch.randint(16, (3, 4, 36)), torch.randint(18, (3, 3))
    crossed = Crossroads(Seen(tokens_SCK, actions_SC, game_id(GAME)), np.eye(3, 18))
    return held_out(source, looker, crossed, CPU, 2)


def test_paths_are_steps_of_held_out_episodes_and_half_of_them_bring_something(judge: HeldOut) -> None:
    last_S = judge.paths.tokens_NCK[:, -1, 0]
    assert (judge.paths.tokens_NCK[:, :, 0] == (last_S[:, None] + torch.arange(-3, 1)) % 16).all()
    assert (judge.paths.actions_NC.diff(dim=1) % 18 == 1).all()
    assert ((judge.ahead_SH[:, :1] - judge.paths.actions_NC[:, -1:]) % 18 == 1).all(), "they go on where it ends"
    for ahead_H, brought in zip(judge.ahead_SH.numpy(), judge.brought_S, strict=True):
        rows = [row for row in range(73, sum(LENGTHS) - AHEAD) if (np.arange(row, row + AHEAD) % 18 == ahead_H).all()]
        told = [sum(np.where(step % 2, 1, -1) for step in range(row, row + AHEAD) if step % 7 == 0) for row in rows]
        assert brought in told
    assert 0 < (judge.brought_S != 0).sum() < len(judge.brought_S)
    episodes = judge.segments.tokens_BTK
    assert episodes is not None and len(episodes) == 256


def test_who_foresees_everything_is_told_so_and_who_foresees_the_opposite_too(judge: HeldOut) -> None:
    model = Jowa(replace(CONFIG.model, max_steps=8), seed=1).eval()
    with torch.inference_mode():
        paths_S, actions_SA = imagined(model, judge.paths, judge.ahead_SH), judge._imagined(model)
    assert actions_SA.shape == (3, 18) and len(np.unique(actions_SA)) > 3
    right = replace(
        judge, brought_S=paths_S.numpy(), crossroads=replace(judge.crossroads, brought_SA=actions_SA.round(6))
    )
    assert right.row(model)[2:] == pytest.approx((1.0, 1.0, 1.0), abs=0.02)
    wrong = replace(right, brought_S=-right.brought_S, crossroads=replace(judge.crossroads, brought_SA=-actions_SA))
    assert wrong.row(model)[2:] == pytest.approx((0.0, 0.0, 0.0), abs=0.02)
    assert right.crossroads.chance == pytest.approx(1 / 18, abs=0.05)


def test_a_model_that_reads_no_action_loses_nothing_by_random_ones(judge: HeldOut) -> None:
    model = Jowa(replace(CONFIG.model, max_steps=8), seed=1).eval()
    weights = dict(model.named_parameters())["embedder.embedding_tables.0.weight"]
    with torch.no_grad():
        for each in model.parameters():
            if each.ndim == 2:
                each *= 10  # of fresh networks almost nothing depends on anything
        assert abs(judge.row(model)[1]) > 1e-4
        weights.copy_(weights[:1].expand_as(weights))
    assert judge.row(model)[1] == pytest.approx(0, abs=1e-5)


def test_models_are_told_on_the_way_and_their_loss_falls(source: SegmentSource, judge: HeldOut) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, max_steps=8))

    def losses() -> list[tuple[int, float]]:
        batches = SegmentLoader([source], 8, 0, 8, with_frames=False)
        return [(step, judge.row(model)[0]) for step, model in learned(config, batches, (10, 60), CPU, 0)]

    found = losses()
    assert [step for step, _ in found] == [10, 60] and found[1][1] < found[0][1] - 0.05
    assert losses() == found, "the same seed"


def test_crossroads_are_states_in_which_the_emulator_brings_other_points_for_other_actions() -> None:
    looker = Looker(JowaAgent(CONFIG), GAME, 4, horizon=AHEAD)
    with torch.inference_mode(), closing(watched_game(GAME, (2,), protocol("sticky"))) as game:
        found = crossroads(looker, game, 3)
    assert found.brought_SA.shape == (3, 18) and found.seen.tokens_ECK.shape == (3, 4, 36)
    assert (found.brought_SA.min(1) < found.brought_SA.max(1)).all()
    assert 0 < found.chance < 1


def test_what_is_not_tokens_of_jowa_is_refused(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny.home))
    with pytest.raises(UsageError, match="is not stored tokens"):
        main([str(tiny.made["trajectories"].ref)])
    with pytest.raises(UsageError, match="1 episodes of Breakout in all"):
        main([str(tiny.made["tokens"].ref)])
    for wrong in (["--sizes", "2x100"], ["--sizes", "4"], ["--steps", "0,500"], ["--batch", "no"]):
        with pytest.raises(SystemExit):
            main([str(tiny.made["tokens"].ref), *wrong])
        assert wrong[0] in capsys.readouterr().err.splitlines()[-1]
