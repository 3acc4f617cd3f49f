"""Tiny agents of the IRIS thesis learn a game through the real stage: GPT-2's blocks, circuits, a critic, an oracle."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assets.metadata import describe
from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.world import new_world_model
from models.tokenizers.config import TokenizerConfig, TokenizerWeights
from pipelines.cli import run
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError
from pipelines.plots.training import loss_names
from pipelines.stages import learn
from pipelines.stages.learn import LearnConfig
from pipelines.store.artefact import Artefact, Report
from pipelines.store.store import Store
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice
from tests.fakes import ROOT
from tests.models.parity.golden_files import load, path_of
from tests.pipelines.stages import tiny_iris

TOKENIZER = TokenizerConfig(
    16, 8, 8, 4, res_blocks=1, attention=False, downsample=(2, 2, 2, 2), resolution=64, frame_channels=3,
    initial="uniform",
)  # fmt: skip
WORLD = WorldModelConfig(16, 16, 4, 3, 2, 32, 0.0)
TOKENS, FRAMES = {"kind": "ncp_tokens", "units": 60}, {"kind": "ncp_frames", "width": 4, "units": 90}
NETWORKS = IrisConfig(
    tokenizer=TOKENIZER,
    world_model=WORLD,
    actor_critic=ActorCriticConfig((4, 4, 4, 4), hidden=8, horizon=3, burn_in=2),
)


def learned(
    tmp_path: Path, protocol: str = "iris-train", check: CheckPlay = CheckPlay(every=0, steps=0), **networks: Any
) -> Artefact:
    uses = tuple(Practice(name, 2, updates=2) for name in ("tokenizer", "world_model", "actor_critic"))
    config = LearnConfig(
        game="Pong",
        networks=replace(NETWORKS, **networks),
        rounds=1,
        uses=uses,
        collect=PlayTurns(protocol, steps=20),
        check=check,
        loop=LoopConfig(precision="float32", log_every=1),
        sight_frames=2,
    )
    return learn.run(config, Store(tmp_path / "store")).artefact


def weights(artefact: Artefact, network: str) -> dict[str, torch.Tensor]:
    return load_file(artefact.path(f"{network}.safetensors"))


def test_what_it_sees_imagines_and_dreams_is_shown_on_the_way_and_at_its_end(tmp_path: Path) -> None:
    """As files of the artefact, in TensorBoard as its own reader reads it, in Dagster, and as curves."""
    found = learned(tmp_path, check=CheckPlay(every=1, episodes=1, max_steps=10, steps=30))
    names = {"film_Pong.gif", "dream_Pong.gif", "sheet_Pong.png"}
    listed = {file.path for file in found.manifest.files}
    assert names | {f"checkpoints/step-6/{name}" for name in names} | {"curves.png"} <= listed
    for name in ("film_Pong.gif", "dream_Pong.gif"):
        with Image.open(found.path(name)) as film:
            assert film.format == "GIF"
    with Image.open(found.path("film_Pong.gif")) as film:
        assert film.n_frames == 30, "all that it played"  # type: ignore[attr-defined]
    (told,) = (row for row in rows_of(found) if row["phase"] == "check")
    assert told["step"] == 6 and 1 <= told["codes_used"] <= 16 and told["perplexity"] <= told["codes_used"] + 1e-4
    assert "return" in told and {"return", "codes_used", "perplexity"} <= set(loss_names(rows_of(found)))
    events = EventAccumulator(str(found.path("metrics.jsonl").parent / "tensorboard" / "pictures")).Reload()
    assert set(events.Tags()["images"]) >= {Path(name).stem for name in names}
    (at_its_end,) = events.Images("film_Pong")
    assert at_its_end.step == 6 and at_its_end.encoded_image_string == found.path("film_Pong.gif").read_bytes()
    shown = describe(Report(found, skipped=False))
    assert {"picture/curves", "picture/film_Pong", "picture/dream_Pong", "picture/step-6/film_Pong"} <= shown.keys()


def rows_of(artefact: Artefact) -> list[dict[str, Any]]:
    return [json.loads(line) for line in artefact.path("metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_frozen_gpt2_is_in_the_finished_agent_bit_for_bit(tmp_path: Path) -> None:
    arrays = load(path_of("thesis_gpt2"))
    hf = {
        name.removeprefix("weights/hf/"): torch.tensor(each) for name, each in arrays.items() if "weights/hf/" in name
    }
    file = tmp_path / "pytorch_model.bin"
    torch.save(hf, file)
    world = replace(WORLD, pretrained=True, frozen=True, learning_blocks=1)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = weights(learned(tmp_path, world_model=world, gpt2_file=str(file), gpt2_sha256=digest), "world_model")
    fused, learns_on = hf["transformer.h.0.attn.c_attn.weight"].T, hf["transformer.h.2.mlp.c_fc.weight"].T
    assert torch.equal(found["transformer.blocks.0.attn.query.weight"], fused[:32])
    assert torch.equal(found["transformer.blocks.1.mlp.2.bias"], hf["transformer.h.1.mlp.c_proj.bias"])
    assert not torch.equal(found["transformer.blocks.2.mlp.0.weight"], learns_on)
    assert (found["transformer.blocks.2.mlp.0.weight"] - learns_on).abs().max() < 0.01, "from there it learned on"
    assert not torch.equal(found["transformer.blocks.0.ln1.weight"], hf["transformer.h.0.ln_1.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("world", [TOKENS, FRAMES], ids=lambda world: world["kind"])
def test_circuits_learn_and_are_practised_in(tmp_path: Path, world: dict[str, Any]) -> None:
    sizes = replace(WORLD, **world)
    found, fresh = weights(learned(tmp_path, world_model=sizes), "world_model"), new_world_model(sizes).state_dict()
    mask, table = "ncp_layers.0.ncp.rnn_cell.layer_0.sparsity_mask", "embedder.embedding_tables.1.weight"
    assert torch.equal(found[mask], fresh[mask]) and not torch.equal(found[table], fresh[table])


@pytest.mark.slow
def test_a_critic_learns_returns_of_what_was_played_through_noise(tmp_path: Path) -> None:
    found = learned(
        tmp_path,
        "iris-train+noise0.05",
        tokenizer=replace(TOKENIZER, value_layers=(5,)),
        weights=TokenizerWeights(value=1.0),
    )
    assert "critic.layers.3.bias" in weights(found, "tokenizer")
    assert found.manifest.roots[0]["noise"] == 0.05 and found.manifest.roots[0]["protocol"] == "iris-train+noise0.05"
    told = [json.loads(line) for line in found.path("metrics.jsonl").read_text().splitlines()]
    assert any("value" in name for row in told for name in row if row["phase"].endswith("tokenizer")), told[-1]


@pytest.mark.slow
def test_an_oracle_practises_in_the_game(tmp_path: Path) -> None:
    plain, oracle = learned(tmp_path / "a"), learned(tmp_path / "b", oracle=True)
    for network, same in (("tokenizer", True), ("world_model", True), ("actor_critic", False)):
        pairs = zip(weights(plain, network).values(), weights(oracle, network).values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == same, network


def test_an_oracle_without_a_game_is_refused() -> None:
    from models.api import Learning
    from models.iris.agent import IrisAgent

    agent = IrisAgent(replace(NETWORKS, oracle=True))
    with pytest.raises(ValueError, match=r"none is played here: set learn\.collect\.steps, or oracle=false"):
        agent.start(Learning(seed=0, legal_GA=torch.ones(0, 0, dtype=torch.bool)), ["actor_critic"])
    agent.start(Learning(seed=0, legal_GA=torch.ones(0, 0, dtype=torch.bool)), ["tokenizer"])


def test_a_file_of_another_size_ends_the_run_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "other.bin"
    torch.save({"h.0.ln_1.weight": torch.ones(32)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    world = replace(WORLD, pretrained=True)
    with pytest.raises(
        UsageError, match=r"^Training cannot begin: These are no weights of a GPT-2 of 3 layers and width"
    ):
        learned(tmp_path, world_model=world, gpt2_file=str(file), gpt2_sha256=digest)
    assert not list((tmp_path / "store").glob("world_model_agent/*/*/manifest.json"))


@pytest.mark.slow  # three processes that load torch: half a minute, minutes on a busy machine
@pytest.mark.timeout(900)
def test_two_ranks_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rank plays two games, both read them; three turns, of which the first is followed by no update."""
    told = []
    changes = [
        "learn.rounds=3",
        "learn.collect.environments=2",
        "learn.world_model.dropout=0",
        "learn.loop.log_every=1",
    ]
    starts = [f"learn.uses.{name}.start=1" for name in ("tokenizer", "world_model", "actor_critic")]
    for ranks in ("1", "2"):
        monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / ranks))
        monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
        assert tiny_iris.new("both", "iris", [*tiny_iris.ONLINE, *changes, *starts]) == 0
        learn_it = [sys.executable, "-m", "pipelines.cli", "learn", "both", "--ranks", ranks]
        done = subprocess.run(learn_it, cwd=ROOT, text=True, capture_output=True, timeout=800)
        assert done.returncode == 0, done.stderr
        (made,) = (tmp_path / ranks / "store" / "world_model_agent").glob("*/*")
        assert json.loads((made / "manifest.json").read_text())["metrics"]["ranks"] == int(ranks)
        told.append([json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()])
    assert [row["phase"] for row in told[0]] == [row["phase"] for row in told[1]] and len(told[0]) == 3 + 2 * 3 * 2
    assert [row["steps_played"] for row in told[1] if row["phase"] == "play"] == [40, 80, 120]
    for one, two in zip(*told, strict=True):
        for name in one.keys() - {"phase", "seconds"}:
            assert one[name] == pytest.approx(two[name], abs=1e-5, rel=1e-5), (name, one, two)


@pytest.mark.slow  # five stages, a few steps each: ten seconds
def test_what_an_agent_played_is_data_for_jowa_and_for_iris_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """84x84 grey under JOWA's rules, whole episodes and perhaps an unfinished one, brought in by the command."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    rules = ["learn.frame=84,84,1", "learn.check.protocol=jowa", "evaluate.protocol=jowa"]
    played = ["learn.collect.protocol=jowa", "learn.collect.steps=600", "learn.collect.epsilon=1"]
    assert tiny_iris.new("player", "iris", [*tiny_iris.SMALL, *rules, *played]) == 0
    assert run(["learn", "player"]) == 0
    (file,) = tmp_path.glob("home/store/world_model_agent/Breakout/*/trajectories.h5")
    assert run(["import", "trajectories", str(file), "--game", "Breakout"]) == 0
    brought = ["source=imported", f"import.contents=Breakout:{hashlib.sha256(file.read_bytes()).hexdigest()}"]
    precise = ["pretrain.loop.precision=float32", "train.loop.precision=float32", "tokenize.precision=float32"]
    assert tiny_iris.new("reader", "mini", [*brought, *precise]) == 0
    cut = ["segment", "--recipe", "mini", "--games", "Breakout", "--set", brought[0], "--set", brought[1]]
    for command in (cut, ["pretrain", "reader"], ["tokenize", "reader"], ["train", "reader"]):
        assert run(command) == 0, command
    assert tiny_iris.new("offline", "iris_offline", [*tiny_iris.SMALL, *rules, *brought]) == 0
    assert run(["learn", "offline"]) == 0
    store = Store(tmp_path / "home" / "store")
    made = {ref.stage: store.open(ref) for name, ref in store.pointers().items() if "/player-" not in name}
    assert made["segments"].manifest.counts["transitions"] == made["tokens"].manifest.counts["frames"] == 600
    root = made["imported_trajectories"].manifest.roots[0]
    assert root["unfinished_episodes"] in (0, 1) and root["exported_ref"].startswith("world_model_agent/Breakout/")
    data = Trajectories(made["imported_trajectories"].path("trajectories.h5"))
    assert data.frame_shape == (84, 84) and np.isin(data.rewards, (-1, 0, 1)).all() and data.rewards.any()
    assert (data.terminals + data.truncations).sum() == data.num_episodes >= 2
    for stage in ("world_action_model", "world_model_agent"):
        rows = [json.loads(line) for line in made[stage].path("metrics.jsonl").read_text().splitlines()]
        assert rows and all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
