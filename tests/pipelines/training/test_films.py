"""Films of imagination, picture by picture: what the agent's own world says of the same actions, and nothing where it
cannot."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from models.api import Context, Imagined, Limits
from models.iris.agent import IrisAgent
from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.environments.actions import legal_mask
from pipelines.environments.registry import game_id
from pipelines.plots.training import GAP, STEPS, captioned
from pipelines.store.artefact import Draft
from pipelines.store.store import Store
from pipelines.training import films
from pipelines.training.device import Device
from pipelines.training.diagnostics import as_bytes, draw, looking
from pipelines.training.films import Scene, draw_films, dream, imagine_along, scene
from pipelines.training.fit import examine
from tests.fakes import spec
from tests.pipelines.training.test_diagnostics import source_of
from tests.pipelines.training.toy_game import BIAS, GAME, ToyAgent

CPU = Device("cpu", False)
NETWORKS = IrisConfig(
    tokenizer=TokenizerConfig(
        16, 8, 8, 4, res_blocks=1, attention=False, downsample=(2, 2, 2, 2), resolution=64, frame_channels=3,
        initial="uniform",
    ),
    world_model=WorldModelConfig(16, 16, 20, 2, 2, 16, 0.1),
    actor_critic=ActorCriticConfig((4, 4, 4, 4), hidden=8, horizon=3, burn_in=2),
)  # fmt: skip


def an_agent(steps: int = 20) -> IrisAgent:
    """A tiny IRIS with weights large enough that what it says depends on what it sees and does."""
    agent = IrisAgent(replace(NETWORKS, world_model=replace(NETWORKS.world_model, max_steps=steps)), seed=3)
    with torch.no_grad():
        for weight in agent.world_model.parameters():
            weight.mul_(8)
    for network in agent.networks.values():
        network.eval()
    return agent


def play(steps: int, given: int = 4) -> Scene:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (steps, 64, 64, 3), dtype=np.uint8)
    legal = np.flatnonzero(legal_mask("Pong"))
    return Scene(frames, torch.as_tensor(rng.choice(legal, steps)), game_id("Pong"), "Pong", given)


def pages(path: Path) -> list[NDArray[np.uint8]]:
    """A film's pictures, as others read them."""
    with Image.open(path) as film:
        assert film.format == "GIF" and film.info["loop"] == 0
        return [np.asarray(page.convert("RGB")) for page in ImageSequence.Iterator(film)]


def test_imagined_frames_are_what_its_own_world_says_of_these_actions() -> None:
    agent, of = an_agent(), play(20)
    found = imagine_along(agent, of, CPU)
    with torch.no_grad():
        seen_TK = agent.encode(torch.as_tensor(of.frames_THW).movedim(-1, 1))
        world = agent.world()
        world.reset(Context(seen_TK[None, :4], of.actions_T[None, :3], torch.tensor([of.game])))
        said = [world.step(of.actions_T[step : step + 1]).tokens_NK for step in range(3, 19)]
        expected = as_bytes(draw(agent, torch.cat([seen_TK[:4], *said])))
    assert found.shape == of.frames_THW.shape and np.array_equal(found, expected)
    other = replace(of, actions_T=of.actions_T.flip(0))
    assert not np.array_equal(imagine_along(agent, other, CPU)[5:], found[5:]), "actions count"


def test_where_the_world_is_full_a_film_goes_on_as_the_agents_dreams_do() -> None:
    agent, of = an_agent(6), play(20)
    found = imagine_along(agent, of, CPU)
    with torch.no_grad():
        seen_TK, world = agent.encode(torch.as_tensor(of.frames_THW).movedim(-1, 1)), agent.dream(sample=False)
        world.reset(Context(seen_TK[None, :4], of.actions_T[None, :3], torch.tensor([of.game])))
        said = [world.step(of.actions_T[step : step + 1]).tokens_NK for step in range(3, 19)]
        assert np.array_equal(found, as_bytes(draw(agent, torch.cat([seen_TK[:4], *said]))))


def test_a_film_shows_play_on_the_left_and_what_is_imagined_of_it_on_the_right(store: Store, tmp_path: Path) -> None:
    source, agent = source_of(store, tmp_path, 60, 60, 44), ToyAgent(rise=2)
    (path,) = draw_films(tmp_path, agent, source, 1, CPU)
    of = scene(agent, source, 1, CPU)
    assert of is not None and path.name == f"film_{GAME}.gif"
    shown, imagined = pages(path), imagine_along(agent, of, CPU)
    assert len(shown) == len(of.frames_THW) == films.STEPS
    for page, left, right in zip(shown, of.frames_THW, imagined, strict=True):
        assert page.shape == (STEPS + 168, 4 * 84 + GAP, 3)
        assert (page[STEPS::2, :168:2] == left[..., None]).all() and (
            page[STEPS::2, 168 + GAP :: 2] == right[..., None]
        ).all()
        assert page[:STEPS].min() < 128, "a line stands above each"
    assert (imagined[4:, 0, 0] == of.frames_THW[3, 0, 0] + BIAS + 2 * np.arange(1, len(imagined) - 3)).all()


@pytest.mark.parametrize(("lengths", "shown"), [((9, 60, 17), 17), ((60, 8), 8), ((60, 60, 7), 0), ((3, 2), 0)])
def test_of_short_episodes_a_film_is_short_or_there_is_none(
    store: Store, tmp_path: Path, lengths: tuple[int, ...], shown: int
) -> None:
    found = draw_films(tmp_path, ToyAgent(), source_of(store, tmp_path, *lengths), 1, CPU)
    assert [len(pages(path)) for path in found] == [shown] * bool(shown)
    assert len(list(tmp_path.glob("*.gif"))) == len(found)


def test_frames_of_many_tokens_are_imagined_for_fewer_steps(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyAgent, "tokens_per_frame", 36)
    of = scene(ToyAgent(), source_of(store, tmp_path, 60, 60), 1, CPU)
    assert of is not None and len(of.frames_THW) == 4 + films.PASSES // 37


def test_an_agent_that_cannot_imagine_gets_no_film_and_its_training_ends_well(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyAgent, "limits", Limits(games=60, steps=1))
    source = source_of(store, tmp_path, 60, 60)
    draft = Draft(spec("pretrained", "toy"), tmp_path / "draft", tmp_path / "scratch", {})
    draft.folder.mkdir()
    assert draw_films(draft.folder, ToyAgent(), source, 1, CPU) == []
    examine(draft, ToyAgent(), [source], {GAME: 1}, 10, CPU)
    assert not list(draft.folder.iterdir()) and draft.metrics["sight"] == {}
    (check,) = draft.checks
    assert not check.passed and check.detail == f"{GAME}: not measured, its world model has room for one step"


def test_it_dreams_on_by_its_own_actions_and_counts_what_it_is_told() -> None:
    """As its policy and its world would, one step after another."""
    agent, of = an_agent(), play(14)
    with looking(agent):
        found = dream(agent, of, CPU)
    assert len(found.rewards) <= 10 and len(found.frames_THW) == 4 + len(found.rewards)
    with torch.no_grad(), looking(agent):
        seen_CK = agent.encode(torch.as_tensor(of.frames_THW[:4]).movedim(-1, 1))
        legal_1A = torch.as_tensor(legal_mask("Pong"))[None]
        policy = agent.policy(films.Acting(torch.tensor([of.game]), legal_1A, temperature=films.TEMPERATURE))
        policy.begin([0], [films.SEED])
        policy.recall(0, torch.as_tensor(of.frames_THW[:3]).movedim(-1, 1), of.actions_T[:3])
        world = agent.dream(films.SEED)
        world.reset(Context(seen_CK[None], of.actions_T[None, :3], torch.tensor([of.game])))
        tokens_1K, told = seen_CK[-1:], []
        for step in range(len(found.rewards)):
            assert np.array_equal(found.frames_THW[3 + step], as_bytes(draw(agent, tokens_1K))[0])
            said = world.step(policy.act_on_tokens(tokens_1K, [0]))
            told.append(float(said.rewards_N))
            tokens_1K = said.tokens_NK
        assert list(found.rewards) == told and found.ended == bool(said.ends_N)


def test_a_dream_ends_where_the_world_says_that_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, of = an_agent(), play(14)
    world, steps = agent.dream(), []
    real = world.step

    def step(actions: torch.Tensor) -> Imagined:
        steps.append(1)
        said = real(actions)
        return replace(said, rewards_N=torch.ones(1), ends_N=torch.tensor([len(steps) == 3]))

    monkeypatch.setattr(world, "step", step)
    monkeypatch.setattr(agent, "dream", lambda seed: world)
    found = dream(agent, of, CPU)
    assert found.ended and list(found.rewards) == [1.0] * 3 and len(found.frames_THW) == 7
    assert [films._told(step, 4, float(step), step == 6) for step in (3, 4, 6)] == [
        "given",
        "dreamt 4: +4",
        "dreamt 6: +6, over",
    ]


@pytest.mark.slow
def test_the_agent_and_the_global_draws_stay_as_they_were(tmp_path: Path) -> None:
    agent, source = an_agent(), Coloured()
    agent.world_model.train()
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in agent.world_model.state_dict().items()}
    with looking(agent):
        made = draw_films(tmp_path, agent, source, 1, CPU)  # type: ignore[arg-type]
    assert [path.name for path in made] == ["film_Pong.gif", "dream_Pong.gif"]
    assert torch.equal(torch.get_rng_state(), before) and agent.world_model.training
    assert all(torch.equal(weights[name], each) for name, each in agent.world_model.state_dict().items())
    again = tmp_path / "again"
    again.mkdir()
    with looking(agent):
        draw_films(again, agent, source, 1, CPU)  # type: ignore[arg-type]
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in made)


class Coloured:
    """A source of one episode in colours."""

    name, game = "Pong", game_id("Pong")

    def longest(self, episodes: int) -> int:
        return 60

    def windows(self, episodes: int, steps: int, count: int, seed: int) -> tuple[Any, Any]:
        of = play(steps)
        return of.frames_THW[None], of.actions_T.numpy()[None]


def test_pictures_beside_each_other_share_one_shape() -> None:
    grey = np.zeros((4, 6), np.uint8)
    assert captioned([grey, grey], ["a", "b"]).shape == (STEPS + 8, 24 + GAP)
    assert captioned([np.zeros((4, 6, 3), np.uint8)], ["a"]).shape == (STEPS + 8, 12, 3)
    with pytest.raises(ValueError, match="must share one shape"):
        captioned([grey, np.zeros((4, 7), np.uint8)], ["a", "b"])
