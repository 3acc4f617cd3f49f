"""A world learns videos, says what it foresees of held-out ones, and an agent goes on from it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.dreamer.agent import DreamerAgent
from models.iris.agent import IrisAgent
from models.iris.config import IrisConfig
from models.rssm.config import FramesConfig
from pipelines.errors import UsageError, WorldlineError
from pipelines.stages import learn, pretrain_videos, videos
from pipelines.stages.pretrain_videos import PretrainVideosConfig
from pipelines.stages.videos import VideosConfig
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent, take_world
from pipelines.training.device import Device
from pipelines.training.foreseeing import FILM
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Phase, Practice, Use
from pipelines.training.step import update
from tests.models.dreamer.small_dreamer import CONFIGS
from tests.pipelines.environments.toy_arm import GAME, known
from tests.pipelines.episodes.videos.made_videos import write_npz
from tests.pipelines.stages.test_learn import rows, weights

FRAMES: dict[str, Any] = {"frame": (64, 64, 3), "frames": FramesConfig("plain", channels=4)}
WORLD = replace(CONFIGS["apv_pretrain"], **FRAMES, segment=8)
NETWORKS = replace(CONFIGS["apv"], **FRAMES, segment=5)
CPU = Device("cpu", torch.float32)


def config(found: Ref, **changes: Any) -> PretrainVideosConfig:
    return replace(
        PretrainVideosConfig(
            name="toy",
            world=WORLD,
            phases=(Phase("videos", 6, (Use("world", 3, lr=3e-3),), weight_decay=1e-6, clip=100.0),),
            foreseen=9,
            videos=found,
            loop=LoopConfig(precision="float32", log_every=1, save_seconds=0.0, holdout_episodes=2),
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("videos") / "store")


@pytest.fixture(scope="module")
def gathered(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    folder = tmp_path_factory.mktemp("npz")
    for seed, length in enumerate((9, 12, 5, 10, 11)):
        write_npz(folder, length, seed)
    found = videos.identified(VideosConfig(source="npz", path=str(folder), min_frames=4))
    return videos.run(found, store).artefact


@pytest.fixture(scope="module")
def learned(store: Store, gathered: Artefact) -> Artefact:
    return pretrain_videos.run(config(gathered.ref), store).artefact


def test_it_leaves_a_world_and_says_what_it_foresees(learned: Artefact, gathered: Artefact) -> None:
    assert {"agent.json", "world_model.safetensors", "curves.png", FILM} <= set(learned.names())
    assert "behaviour.safetensors" not in learned.names()
    assert learned.manifest.counts["videos"] == 3 and learned.manifest.counts["held_out_videos"] == 2
    found = learned.manifest.metrics["foreseen"]
    assert found["videos"] == 2 and (found["seen_steps"], found["foreseen_steps"]) == (5, 4)
    assert found["copy_last_error"] > 0 and found["mean_frame_error"] > 0 and found["foreseen_error"] > 0
    (check,) = (each for each in learned.manifest.checks if each.name == "sees")
    assert check.detail.startswith("2 held-out videos: 5 steps") and "against copy" in check.detail
    assert [each.ref for each in learned.manifest.parents] == [str(gathered.ref)]
    assert {"kl", "image"} <= set(rows(learned)[-1]) and "reward" not in rows(learned)[-1]


@pytest.mark.slow
def test_without_held_out_videos_figures_are_not_called_so(gathered: Artefact, store: Store) -> None:
    loop = LoopConfig(precision="float32", holdout_episodes=0)
    found = pretrain_videos.run(config(gathered.ref, loop=loop), store).artefact
    assert found.manifest.counts["held_out_videos"] == 0 and not found.manifest.metrics["foreseen"]["held_out"]
    assert "videos that were learned from" in found.manifest.checks[0].detail


def test_a_killed_run_goes_on_to_the_bit(
    learned: Artefact, gathered: Artefact, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def dies(*args: Any) -> Any:
        made.append(0)
        if len(made) == 4:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr("pipelines.training.loop.update", dies)
    before = weights(learned)
    again = config(gathered.ref, name="again", seed=0)
    with pytest.raises(KeyboardInterrupt):
        pretrain_videos.run(replace(again, sight_frames=255), store)
    resumed = pretrain_videos.run(replace(again, sight_frames=255), store).artefact
    assert weights(resumed) == before


def test_an_agent_goes_on_from_it(learned: Artefact, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)
    lesson = learn.LearnConfig(
        game=GAME,
        networks=NETWORKS,
        rounds=1,
        uses=(Practice("world", 4, updates=2, lr=1e-3, clip=100.0),),
        collect=PlayTurns("arm64", steps=30, epsilon=1.0),
        check=CheckPlay(every=0, episodes=1, temperature=0.0, steps=24, protocol="arm64"),
        loop=LoopConfig(precision="float32", log_every=1),
        world=learned.ref,
    )
    found = learn.run(lesson, store).artefact
    assert str(learned.ref) in [each.ref for each in found.manifest.parents]
    taught = load_agent(learned, CPU).networks["world_model"].state_dict()
    now = load_agent(found, CPU).networks["world_model"].state_dict()
    # What videos taught waits for `delay` updates, of which there were no more than these.
    for name, weight in taught.items():
        if name.startswith("encoder.") or name.startswith("rssm."):
            place = name.replace("rssm.", "first.", 1) if name.startswith("rssm.") else name
            if weight.is_floating_point() and "running" not in name:
                assert torch.equal(now[place], weight), name
    assert not torch.equal(now["decoder.inward.weight"], taught["decoder.inward.weight"])


def test_worlds_that_do_not_fit_are_refused(learned: Artefact) -> None:
    taught = load_agent(learned, CPU)
    with pytest.raises(UsageError, match=r"it does not fit: .* is another one"):
        take_world(DreamerAgent(replace(NETWORKS, room=6)), taught, "it")
    with pytest.raises(UsageError, match="it is of the family 'dreamer', and 'iris' learns here"):
        take_world(IrisAgent(IrisConfig()), taught, "it")


def test_videos_that_are_too_short_are_one_line(gathered: Artefact, store: Store) -> None:
    long = replace(WORLD, segment=40)
    with pytest.raises(WorldlineError, match=r"has 40 frames: lower pretrain_videos\.segment"):
        pretrain_videos.run(config(gathered.ref, world=long), store)


def test_recipes_without_videos_or_with_actions_are_refused(gathered: Artefact) -> None:
    class Beside:
        name = "toy"

        def template(self, verb: str) -> None:
            return None

    with pytest.raises(UsageError, match="no videos to learn from: give the recipe a stage 'videos'"):
        config(gathered.ref, videos=None).check_frozen(Beside())  # type: ignore[arg-type]
    acting = replace(WORLD, reads="environment")
    with pytest.raises(UsageError, match=r"set pretrain_videos\.reads=video or nothing"):
        config(gathered.ref, world=acting).check_frozen(Beside())  # type: ignore[arg-type]
