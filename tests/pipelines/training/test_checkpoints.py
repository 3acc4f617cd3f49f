"""Checkpoints at rest: the same numbers after loading, one line for a file that is not one, and which are kept."""

import errno
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.iris.agent import IrisAgent
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.errors import MayPass, UsageError, WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.training.checkpoints import CheckpointManager, LoadedAgent, load_agent, save_agent, take_weights
from pipelines.training.device import Device
from pipelines.training.schedule import LoopConfig
from tests.fakes import Synced, spec
from tests.pipelines.stages.test_learn_iris import NETWORKS

CPU = Device("cpu", False)
CONFIG = JowaAgentConfig(
    tokenizer=TokenizerConfig(
        vocab_size=16, embed_dim=8, z_channels=8, channels=2, channel_mult=(1, 2), res_blocks=1, attention=False,
        downsample=(7,), patch_stem=2, quantizer="ema",
    ),
    model=JowaConfig(vocab_size=16, layers=1, heads=2, width=16, q_hidden=8, task_ids=((2, 1),)),
)  # fmt: skip
LOOP = LoopConfig(keep_last=2, keep_best=1)


def stored(store: Store, agent: JowaAgent, seed: int = 0) -> Artefact:
    return store.produce(spec("pretrained", "toy", seed=seed), lambda draft: save_agent(draft.folder, agent)).artefact


def test_an_agent_comes_back_whole_and_may_learn_again(store: Store) -> None:
    ours = JowaAgent(CONFIG, seed=5)
    found = load_agent(stored(store, ours), CPU)
    assert found.config == CONFIG
    for name, network in ours.networks.items():
        loaded = found.networks[name]
        assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
        assert loaded.state_dict().keys() == network.state_dict().keys()
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in network.state_dict().items())
    frames = torch.randint(0, 256, (3, 1, 84, 84), dtype=torch.uint8)
    ours.tokenizer.eval()
    assert torch.equal(found.encode(frames), ours.encode(frames))


def test_the_same_checkpoint_is_loaded_once_and_another_anew(store: Store) -> None:
    first, second = stored(store, JowaAgent(CONFIG, 1), 1), stored(store, JowaAgent(CONFIG, 2), 2)
    loaded = LoadedAgent()
    agent = loaded.load(first, CPU)
    assert loaded.load(first, CPU) is agent
    assert loaded.load(second, CPU) is not agent
    assert loaded.load(first, Device("cpu", True)) is not agent


def test_what_holds_no_agent_or_no_such_step_is_said(store: Store) -> None:
    empty = store.produce(spec("tokens", "toy"), lambda draft: draft.path("a").write_text("a")).artefact  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match="holds no agent"):
        load_agent(empty, CPU)
    with pytest.raises(UsageError, match=r"keeps no checkpoint of step 7: it keeps none \(loop.checkpoint_every\)"):
        load_agent(stored(store, JowaAgent(CONFIG)), CPU, step=7)


def _change(**fields: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "agent.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return damage


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return damage


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _other_network(folder: Path) -> None:
    save_file({"weight": torch.zeros(2)}, folder / "tokenizer.safetensors")


def _gone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        _write("agent.json", b"junk" * 99),
        _write("agent.json", b"[1]"),
        _change(format=99),
        _change(family="nobody"),
        _change(config={"family": "jowa", "colour": 1}),
        _change(config={"family": "jowa", "model": {"layers": 0}}),
        _change(config=3),
        _write("model.safetensors", b"junk" * 99),
        _write("tokenizer.safetensors", b""),
        _truncated,
        _other_network,
        _gone,
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(store: Store, damage: Callable[[Path], None]) -> None:
    artefact = stored(store, JowaAgent(CONFIG))
    damage(artefact.folder)
    with pytest.raises(WorldlineError, match=re.escape(str(artefact.folder)) + ".*make its artefact again") as caught:
        load_agent(artefact, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", ["load_file", "json.loads"])
def test_a_checkpoint_that_a_disk_does_not_give_now_is_not_to_be_made_again(
    store: Store, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = stored(store, JowaAgent(CONFIG))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(MayPass, match="cannot be read now"):
        patch.setattr(f"pipelines.training.checkpoints.{reader}", fail)
        load_agent(artefact, CPU)
    load_agent(artefact, CPU)


def manager(scratch: Path, loop: LoopConfig = LOOP, scores: Iterator[float] = iter(())) -> CheckpointManager:
    def save(folder: Path) -> None:
        (folder / "model.safetensors").write_text(folder.name)

    return CheckpointManager(scratch, loop, save, lambda: {"Pong": next(scores), "Boxing": 0.0})


def folders(scratch: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in (scratch / "checkpoints").glob("step-*"))


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    made = manager(tmp_path, scores=iter([3.0, 5.0, 1.0]))
    for step in range(10, 71, 10):
        made.keep(step, play=step % 20 == 0)
    assert [(each.step, dict(each.returns), each.best) for each in made.kept()] == [
        (40, {"Pong": 5.0, "Boxing": 0.0}, True),
        (60, {"Pong": 1.0, "Boxing": 0.0}, False),
        (70, {}, False),
    ]
    assert folders(tmp_path) == [40, 60, 70]
    made.copy_to(tmp_path / "artefact")
    found = sorted(path.name for path in (tmp_path / "artefact/checkpoints").iterdir())
    assert found == ["index.json", "step-40", "step-60", "step-70"]


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    made = manager(tmp_path, LoopConfig())
    made.forget_after(50)
    made.copy_to(tmp_path / "artefact")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.integers(-5, 5), min_size=4, max_size=9), cut=st.integers(1, 8), again=st.integers(0, 2))
def test_a_resumed_run_ends_with_the_checkpoints_of_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, scores: list[int], cut: int, again: int
) -> None:
    """The state is saved with every checkpoint: a run resumes behind the newest, or makes that one again."""
    loop = LoopConfig(evaluate_every=1, keep_last=2, keep_best=2)
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    made = manager(whole, loop, iter(map(float, scores)))
    for step in range(1, len(scores) + 1):
        made.keep(step, play=True)
    cut = min(cut, len(scores))
    first = manager(broken, loop, iter(map(float, scores)))
    for step in range(1, cut + 1):
        first.keep(step, play=True)
    resumed = manager(broken, loop, iter(map(float, scores[cut:])))
    resumed.forget_after(cut)
    for step in range(cut + 1, len(scores) + 1):
        resumed.keep(step, play=True)
    assert resumed.kept() == made.kept()
    assert folders(broken) == folders(whole)


def test_what_a_resumed_run_makes_again_is_dropped_first(tmp_path: Path) -> None:
    made = manager(tmp_path, scores=iter([1.0]))
    for step in (10, 20):
        made.keep(step, play=step == 20)
    made.forget_after(15)
    assert [each.step for each in made.kept()] == folders(tmp_path) == [10]


def test_a_stage_that_cannot_play_refuses_to_be_judged_by_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loop.evaluate_every is 20, .* set it for the train stage"):
        CheckpointManager(tmp_path, LoopConfig(evaluate_every=20), lambda folder: None)


def test_what_is_kept_is_on_the_disk_before_the_index_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = Synced(monkeypatch)
    manager(tmp_path).keep(10, play=False)
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert len(files) > 1 and all(path in synced for path in files)


@pytest.mark.parametrize(
    ("part", "name", "theirs"),
    [("world_model", "heads", 1), ("tokenizer", "norm_groups", 1), ("world_model", "gelu", "tanh")],
)
def test_equal_weights_that_would_mean_something_else_are_refused(part: str, name: str, theirs: object) -> None:
    """Shapes are the same; the message has both numbers."""
    other = replace(NETWORKS, **{part: replace(getattr(NETWORKS, part), **{name: theirs})})
    ours, agent = getattr(getattr(NETWORKS, part), name), IrisAgent(NETWORKS, seed=1)
    before = {key: each.clone() for key, each in agent.tokenizer.state_dict().items()}
    with pytest.raises(UsageError, match=rf"^It has {part}\.{name} {theirs}, here it is {ours}: the same weights"):
        take_weights(agent, IrisAgent(other, seed=2), "It")
    assert all(torch.equal(before[key], each) for key, each in agent.tokenizer.state_dict().items())


def test_weights_that_only_the_other_agent_has_are_refused_before_any_is_taken() -> None:
    larger = replace(NETWORKS, world_model=replace(NETWORKS.world_model, layers=NETWORKS.world_model.layers + 1))
    ours, theirs = IrisAgent(NETWORKS, seed=1), IrisAgent(larger, seed=2)
    before = {name: each.clone() for name, each in ours.tokenizer.state_dict().items()}
    words = r"weight 'transformer\.blocks\.\d\.\S+' of 'world_model' is \(\d.*here missing"
    with pytest.raises(UsageError, match=words):
        take_weights(ours, theirs, "It")
    assert all(torch.equal(before[name], each) for name, each in ours.tokenizer.state_dict().items())
