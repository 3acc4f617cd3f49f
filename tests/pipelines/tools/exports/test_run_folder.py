"""A run folder holds what was played, step by step, and the numbers that it was played by; nothing half-written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from models.iris.agent import IrisAgent
from models.iris.config import TOKENIZER, ActorCriticConfig, IrisConfig, WorldModelConfig
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.recipes.iris import iris
from pipelines.stages.learn import LearnConfig
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store
from pipelines.tools.exports import run_folder
from pipelines.tools.exports.export import export
from pipelines.tools.exports.original_checkpoint import OriginalCheckpoint
from pipelines.tools.exports.run_folder import CHECKPOINTS, CONFIG, DATASET, PLAYED, RunFolder
from pipelines.training.checkpoints import save_agent
from tests.pipelines.episodes.made_episodes import LENGTHS, write_episodes

NETWORKS = IrisConfig(
    frame=(63, 63, 3),
    tokenizer=replace(
        TOKENIZER, vocab_size=8, embed_dim=4, z_channels=4, channels=4, norm_groups=2, res_blocks=1,
        downsample=(2, 2), resolution=16, attention_at=(8,),
    ),
    world_model=WorldModelConfig(8, 16, 3, 1, 2, 8, 0.25, 3),
    actor_critic=ActorCriticConfig((4,), 8, num_actions=3, resolution=16),
    actions=(0, 2, 5),
)  # fmt: skip


@pytest.fixture
def learned(tmp_path: Path) -> Artefact:
    """What a training of `iris` on Freeway leaves, but for the training."""
    config = replace(iris().of(LearnConfig), game="Freeway", networks=NETWORKS, rounds=70)

    def build(draft: Draft) -> None:
        save_agent(draft.folder, IrisAgent(NETWORKS, seed=5))
        write_episodes(draft.path(FILE_NAME), frame=(63, 63, 3)).close()
        draft.path("metrics.jsonl").write_text('{"phase": "play", "step": 0}\n')
        draft.path("sheet_Freeway.png").write_bytes(b"png")
        draft.path("checkpoints/step-400/sheet_Freeway.png").write_bytes(b"earlier")
        draft.path("checkpoints/step-400/film_Freeway.gif").write_bytes(b"imagined")
        draft.path("dream_Freeway.gif").write_bytes(b"dreamt")
        draft.check("sees", True, "")

    return Store(tmp_path / "store").produce(config.spec(), build).artefact


def folder_of(artefact: Artefact) -> RunFolder:
    checkpoint = OriginalCheckpoint.of(artefact, CHECKPOINTS, "iris", None, "A run folder")
    return RunFolder(artefact, checkpoint, "Freeway", "run")


def test_every_step_is_there_in_the_originals_form(learned: Artefact, tmp_path: Path) -> None:
    said = str(export(learned, folder_of(learned), tmp_path / "out"))
    assert "4 episodes, 68 steps" in said
    path, played = tmp_path / "out" / "run", Trajectories(learned.path(FILE_NAME))
    files = [path / DATASET / f"{number}.pt" for number in range(len(LENGTHS))]
    episodes = [torch.load(file, weights_only=True) for file in files]
    assert sorted(files) == sorted((path / DATASET).iterdir())
    kinds = {"observations": torch.uint8, "actions": torch.int64, "rewards": torch.float32, "ends": torch.int64}
    for episode, length in zip(episodes, LENGTHS, strict=True):
        assert {name: each.dtype for name, each in episode.items()} == kinds | {"mask_padding": torch.bool}
        assert episode["observations"].shape == (length, 3, 63, 63) and bool(episode["mask_padding"].all())
        assert episode["ends"].tolist() == [0] * (length - 1) + [1], "the last one was cut by the time limit"
    whole = {name: torch.cat([each[name] for each in episodes]).numpy() for name in kinds}
    assert np.array_equal(whole["observations"].transpose(0, 2, 3, 1), played.frames(0, 68))
    assert np.array_equal(whole["actions"], played.actions) and np.array_equal(whole["rewards"], played.rewards)
    assert torch.load(path / CHECKPOINTS / "epoch.pt", weights_only=True) == 70
    names = {each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()}
    others = {CONFIG, "checkpoints/last.pt", "checkpoints/epoch.pt", "metrics/metrics.jsonl"}
    others |= {f"media/reconstructions/{when}_Freeway.png" for when in ("end", "step-400")}
    others |= {f"media/episodes/imagination/{name}" for name in ("step-400_film_Freeway.gif", "end_dream_Freeway.gif")}
    best = int(np.argmax([float(episode["rewards"].sum()) for episode in episodes]))
    shown = {f"episode_{number}_epoch_1.pt" for number in range(4)} | {f"best_episode_{best}_epoch_1.pt"}
    assert names == others | {f"{DATASET}/{number}.pt" for number in range(4)} | {f"{PLAYED}/{name}" for name in shown}
    for name in shown:
        found, number = torch.load(path / PLAYED / name, weights_only=True), int(name.split("_epoch")[0].split("_")[-1])
        assert all(torch.equal(found[part], each) for part, each in episodes[number].items())
    assert (path / "media/episodes/imagination/end_dream_Freeway.gif").read_bytes() == b"dreamt"


def test_the_newest_episodes_and_the_best_are_named_by_the_rounds_in_which_they_ended(
    learned: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two environments, of which the second played two steps fewer in the first turn."""
    monkeypatch.setattr(run_folder, "NEWEST", 3)
    collect = {"steps": 11, "first_steps": 4, "until": 6, "environments": 2}
    folder = folder_of(learned)
    folder._learning.update(collect=collect)
    rounds = [folder._round(stop) for stop in (1, 2, 3, 8, 9, 32, 33, 34, 35, 36, 40, 41, 59)]
    assert rounds == [1, 1, 2, 2, 3, 6, 1, 1, 2, 2, 3, 3, 6], "2, then 6 a turn; of the second 2, then 5"
    starts = Trajectories(learned.path(FILE_NAME)).episode_starts
    ends = {number: folder._round(int(starts[number + 1])) for number in range(4)}
    newest = sorted(ends, key=lambda number: (ends[number], number))[1:]
    named = {name for names in folder._shown.values() for name in names}
    assert {f"{PLAYED}/episode_{number}_epoch_{ends[number]}.pt" for number in newest} <= named
    assert len(named) == 4 and sum("best_episode" in name for name in named) == 1


def test_its_weights_are_the_artefacts_under_the_originals_names(learned: Artefact, tmp_path: Path) -> None:
    export(learned, folder_of(learned), tmp_path / "out")
    found = torch.load(tmp_path / "out" / "run" / CHECKPOINTS / "last.pt", weights_only=True)
    agent = IrisAgent(NETWORKS, seed=5)
    for name, network in agent.networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(found.pop(f"{name}.{key}"), tensor)
    assert {name.split(".", 1)[1] for name in found} == {
        "transformer.blocks.0.attn.mask",
        *(f"head_{head}.indices" for head in ("observations", "rewards", "ends")),
    }


def test_its_config_has_the_recipes_numbers_under_the_originals_names(learned: Artefact, tmp_path: Path) -> None:
    export(learned, folder_of(learned), tmp_path / "out")
    text = (tmp_path / "out" / "run" / CONFIG).read_text()
    config = yaml.safe_load(text)
    assert config["common"] == {"device": "cpu", "sequence_length": 3, "epochs": 70, "seed": 0} and "&id" not in text
    train, test = config["env"]["train"], config["env"]["test"]
    assert (train["id"], train["noop_max"], train["max_episode_steps"]) == ("FreewayNoFrameskip-v4", 30, 20_000)
    assert train["done_on_life_loss"] and not test["done_on_life_loss"]
    assert (test["noop_max"], test["max_episode_steps"]) == (1, 108_000)
    assert config["collection"]["train"]["stop_after_epochs"] == 500
    assert config["collection"]["test"]["config"]["temperature"] == 0.5
    assert config["training"]["world_model"]["weight_decay"] == 0.01
    assert config["training"]["actor_critic"]["start_after_epochs"] == 50
    assert "weight_decay" not in config["training"]["tokenizer"]
    assert config["world_model"]["tokens_per_block"] == 17 and config["world_model"]["attn_pdrop"] == 0.25
    assert config["env"]["keymap"] == "atari/FreewayNoFrameskip-v4"
    for name in ("encoder", "decoder"):
        assert config["tokenizer"][name]["config"]["ch_mult"] == [1, 1, 1]


def test_its_config_names_what_the_originals_play_tool_makes_of_it(learned: Artefact, tmp_path: Path) -> None:
    """Names and classes as the released code's config files have them."""
    export(learned, folder_of(learned), tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / "run" / CONFIG).read_text())
    made = {"env.train": "envs.make_atari", "env.test": "envs.make_atari", "tokenizer": "models.tokenizer.Tokenizer"}
    made |= {f"tokenizer.{name.lower()}": f"models.tokenizer.{name}" for name in ("Encoder", "Decoder")}
    made |= {f"tokenizer.{name}.config": "models.tokenizer.EncoderDecoderConfig" for name in ("encoder", "decoder")}
    assert targets(config) == made | {"world_model": "models.TransformerConfig"}
    assert config["tokenizer"]["encoder"]["config"].keys() == {
        *("_target_", "resolution", "in_channels", "z_channels", "ch", "ch_mult", "num_res_blocks"),
        *("attn_resolutions", "out_ch", "dropout"),
    }
    assert config["world_model"].keys() == {
        *("_target_", "tokens_per_block", "max_blocks", "attention", "num_layers", "num_heads", "embed_dim"),
        *("embed_pdrop", "resid_pdrop", "attn_pdrop"),
    }
    assert config["env"]["test"].keys() == {
        *("_target_", "id", "size", "max_episode_steps", "noop_max", "frame_skip", "done_on_life_loss", "clip_reward"),
    }


def targets(config: dict[str, Any], place: str = "") -> dict[str, str]:
    """Every `_target_`, by its place."""
    found = {place: config["_target_"]} if "_target_" in config else {}
    for name, inner in config.items():
        if isinstance(inner, dict):
            found |= targets(inner, f"{place}.{name}".strip("."))
    return found


def test_a_copy_that_reads_back_otherwise_leaves_nothing(
    learned: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, what = run_folder.torch.save, folder_of(learned)

    def careless(value: object, path: Path) -> None:
        if path.name == "2.pt":
            value = {**value, "rewards": value["rewards"] + 1}  # type: ignore[dict-item,index]
        real(value, path)

    monkeypatch.setattr(run_folder.torch, "save", careless)
    with pytest.raises(WorldlineError, match=r"does not read back as written \(episode 2\)"):
        export(learned, what, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_what_stands_there_is_not_written_over(learned: Artefact, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is there and not empty"):
        export(learned, folder_of(learned), tmp_path)
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["mine"]
