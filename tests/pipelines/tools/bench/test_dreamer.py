"""Both sides of the Dreamer family's benchmark learn and imagine the same, or their ratio says nothing."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from models.dreamer.agent import DreamerAgent
from models.dreamer.world_model import Observed, Segments, WorldModel
from models.rssm.chance import Draws
from pipelines.tools.bench import dreamer, train
from pipelines.tools.bench.dreamer import BEHAVIOUR, QUICK, WORLD, Noted, apart, episodes, run, same
from tests.models.dreamer.small_dreamer import CONFIGS

NAMES = ["dreamerv2", "apv_pretrain", "apv", "naive", "prelar_pretrain", "prelar"]


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_lose_the_same_and_have_the_same_gradients(name: str) -> None:
    config = replace(CONFIGS[name], segment=5)
    for objective in (WORLD, BEHAVIOUR) if config.practises else (WORLD,):
        loss, gradient = apart(config, episodes(config, 3), objective)
        assert loss < 1e-6 and gradient < 1e-5


def test_sides_that_differ_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    config, ours = QUICK.pretrain, WorldModel.observe

    def darker(self: WorldModel, segments: Segments, draws: Draws) -> Observed:
        return ours(self, replace(segments, frames_BTCRR=segments.frames_BTCRR // 2), draws)

    assert same(config, episodes(config, 3), WORLD)[1]
    monkeypatch.setattr(WorldModel, "observe", darker)
    said, met = same(config, episodes(config, 3), WORLD)
    assert not met and "(1e-05 is asked for)" in said


def test_noted_draws_are_given_again_whatever_the_chances_are() -> None:
    noted = Noted()
    given = [noted.classes("posterior", torch.randn(4, 3, 5)) for _ in range(3)]
    again = Noted(noted)
    assert all(torch.equal(again.classes("posterior", torch.randn(4, 3, 5)), each) for each in given)
    assert torch.equal(again.normal("latent_action", torch.zeros(7)), Noted().normal("latent_action", torch.zeros(7)))


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_every_row_is_measured_and_says_how_many_segments_it_took(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.device, "cpu_has_bf16", lambda: bf16)
    before = torch.get_num_threads()
    rows = run(replace(QUICK, most=2))
    kinds = ("", "-bf16") if bf16 else ("",)
    names = ("prelar-pretrain", "dreamer-imagination", "prelar-finetune")
    assert [row.name for row in rows] == [f"{name}{kind}" for name in names for kind in kinds]
    for row in rows:
        assert row.ratio > 0 and "2 " in row.what and all(met for _, met in row.conditions)
        assert bool(row.conditions) != row.name.endswith("-bf16")
    assert torch.get_num_threads() == before


def test_updates_of_both_sides_leave_the_agent_that_they_are_given_as_it_is() -> None:
    agent, batch = DreamerAgent(QUICK.finetune), episodes(QUICK.finetune, 3)
    before = {name: each.clone() for name, each in agent.world_model.state_dict().items()}
    for update in (dreamer.plain_update, partial(dreamer.our_update, bf16=False)):
        update(agent, batch, (WORLD, BEHAVIOUR))()
    assert all(torch.equal(each, before[name]) for name, each in agent.world_model.state_dict().items())
