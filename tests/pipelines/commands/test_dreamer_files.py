"""Files of the video family's originals come in and go out again, bit for bit; what is another recipe's is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.dreamer.agent import DreamerAgent
from models.dreamer.config import DreamerConfig
from models.dreamer.state_dict import Names, original_state_dict
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import RECIPES
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.stages.pretrain_videos import PretrainVideosConfig
from pipelines.stages.videos import VideosConfig
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.schedule import Phase, Use
from tests.models.dreamer.small_dreamer import CONFIGS, PRETRAINED
from tests.pipelines.environments.toy_arm import GAME, known
from tests.pipelines.episodes.videos.made_videos import write_npz
from tests.pipelines.stages.test_learn_numbers import config

ACTING = ("dreamerv2", "apv", "naive", "prelar", "contextwm")
FILES = {"rssm": "wm.rssm.", "encoder": "wm.encoder.", "decoder": "wm.heads.decoder.", "va_encoder": "wm.va_encoder."}


def small(name: str) -> DreamerConfig:
    return replace(CONFIGS[name], segment=5)


def recipe(name: str) -> Recipe:
    """An agent that learns the toy arm, from a world of videos where its variant has one; or such a world alone."""
    found = Recipe(name, games=(GAME,))
    if name in ACTING:
        learn = replace(config(networks=small(name)), game="", seed=0)
        score = EvaluateConfig(protocol="arm", planner="greedy", episodes=1, epsilon=0.0)
        found = found.but(learn=learn, evaluate=score)
    if world := PRETRAINED.get(name, "" if name in ACTING else name):
        phase = Phase("videos", 4, (Use("world", 2),))
        pretrain = PretrainVideosConfig(world=small(world), phases=(phase,))
        found = found.but(videos=VideosConfig(), pretrain_videos=pretrain)
    return found


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    known(monkeypatch)
    for name in CONFIGS:
        monkeypatch.setitem(RECIPES, name, lambda name=name: recipe(name))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "variables.pt"


def saved(file: Path, name: str, names: Names = "prelar") -> dict[str, Tensor]:
    agent = DreamerAgent(small(name), seed=4)
    if agent.behaviour is not None and agent.world_model.bonus is not None:
        agent.world_model.bonus.queue.normal_(generator=torch.Generator().manual_seed(1))
    theirs = original_state_dict(agent.world_model, agent.behaviour, names)
    torch.save(theirs, file)
    return theirs


def brought(file: Path, name: str, *more: str) -> int:
    return run(["import", "dreamer", "--file", str(file), "--recipe", name, *more])


def exported(tmp_path: Path, experiment: str) -> dict[str, Tensor]:
    assert run(["export", "checkpoint", experiment, "--to", "dreamer", "--out", str(tmp_path / "out")]) == 0
    [folder] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    found: dict[str, Tensor] = torch.load(folder / "variables.pt", weights_only=True)
    return found


def same(found: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return found.keys() == theirs.keys() and all(
        found[name].dtype == theirs[name].dtype and torch.equal(found[name], theirs[name]) for name in theirs
    )


@pytest.mark.parametrize("name", ACTING)
def test_in_and_out_again_is_exact_aliases_and_buffers_too(file: Path, tmp_path: Path, name: str) -> None:
    theirs = saved(file, name)
    assert any(each.startswith("_expl_behavior.") for each in theirs)
    assert any("running_mean" in each for each in theirs) and any("num_batches_tracked" in each for each in theirs)
    assert brought(file, name, "--game", GAME) == 0
    assert same(exported(tmp_path, f"{name}-{GAME}"), theirs)


def test_other_dtypes_aliases_left_out_and_contextwms_own_names(file: Path, tmp_path: Path) -> None:
    theirs = {name: each.bfloat16() if each.is_floating_point() else each for name, each in saved(file, "apv").items()}
    torch.save({name: each for name, each in theirs.items() if not name.startswith("_expl_behavior.")}, file)
    assert brought(file, "apv", "--game", GAME) == 0
    assert same(exported(tmp_path, f"apv-{GAME}"), theirs)
    wanted = saved(file, "contextwm")
    assert not same(saved(file, "contextwm", "contextwm"), wanted)
    assert brought(file, "contextwm", "--game", GAME, "--name", "own") == 0
    (tmp_path / "out").rename(tmp_path / "before")
    assert same(exported(tmp_path, "own"), wanted)


def test_what_came_in_plays(file: Path) -> None:
    saved(file, "prelar")
    assert brought(file, "prelar", "--game", GAME) == 0
    assert run(["evaluate", f"prelar-{GAME}"]) == 0


def test_a_world_goes_out_with_the_bits_it_came_in_with_and_is_no_agent_that_plays(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = saved(file, "prelar_pretrain")
    assert brought(file, "prelar_pretrain") == 0
    assert same(exported(tmp_path, "prelar_pretrain"), theirs)
    to = str(tmp_path / "hub")
    for asked in (
        ["hub", "prelar_pretrain", "--to", to],
        ["checkpoint", "prelar_pretrain", "--to", "dreamer", "--out", to, "--game", GAME],
    ):
        capsys.readouterr()
        assert run(["export", *asked]) == 2
        printed = capsys.readouterr().err
        assert "plays nothing: take one that does" in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    ["prelar_pretrain", *(pytest.param(f"{name}_pretrain", marks=pytest.mark.slow) for name in ("apv", "contextwm"))],
)
def test_a_world_that_learned_videos_here_goes_out_and_comes_back_to_the_bit(
    file: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = replace(small(name), frame=(64, 64, 3), frames=replace(small(name).frames, resolution=64))
    found = recipe(name)
    whole = found.but(pretrain_videos=replace(found.of(PretrainVideosConfig), world=world))
    monkeypatch.setitem(RECIPES, name, lambda: whole)
    for seed in range(4):
        write_npz(tmp_path / "npz", 9, seed)
    assert run(["videos", "import", str(tmp_path / "npz"), "--min-frames", "6"]) == 0
    told = [word for word in capsys.readouterr().out.split() if word.startswith("videos.")]
    changes = [part for each in told for part in ("--set", each.rstrip(","))]
    assert run(["experiment", "new", "own", "--recipe", name, *changes]) == 0
    assert run(["pretrain-videos", "own"]) == 0
    gone_out = exported(tmp_path, "own")
    store = Store(home.home() / "store")
    (ref,) = {ref for each, ref in store.pointers().items() if each.startswith("video_pretrained/")}
    agent = load_agent(store.open(ref), Device("cpu", bf16=False))
    assert isinstance(agent, DreamerAgent)
    assert same(gone_out, original_state_dict(agent.world_model, None))
    torch.save(gone_out, file)
    assert brought(file, name, "--name", "back") == 0
    (tmp_path / "out").rename(tmp_path / "before")
    assert same(exported(tmp_path, "back"), gone_out)


@pytest.mark.slow
def test_an_agent_goes_on_from_a_world_that_came_in(file: Path, tmp_path: Path) -> None:
    theirs = saved(file, "prelar_pretrain")
    assert brought(file, "prelar", "--game", GAME, "--name", "on") == 0
    folder = tmp_path / "pretrain"
    folder.mkdir()
    for part, before in FILES.items():
        part_of = {name.removeprefix(before): each for name, each in theirs.items() if name.startswith(before)}
        torch.save(part_of, folder / f"{part}_variables.pt")
    assert brought(folder, "prelar_pretrain") == 0
    store = Store(home.home() / "store")
    keys = [find(home.home() / "experiments", name).key for name in ("on", "prelar_pretrain")]
    whole, parts = (store.open(store.resolve(f"imported_world/{key}")) for key in keys)
    assert whole.manifest.parts["agent"] == parts.manifest.parts["agent"]
    assert [each["file"] for each in parts.manifest.roots] == [f"{part}_variables.pt" for part in FILES]
    world = load_agent(whole, Device("cpu", bf16=False))
    assert torch.equal(world.networks["world_model"].rssm.inward.weight, theirs["wm.rssm._img_in.0.weight"])
    recipes = [find(home.home() / "experiments", name).recipe for name in ("on", "prelar_pretrain")]
    assert [each.template(LearnConfig.VERB) is not None for each in recipes] == [True, False]
    assert not any(each.pretrain_videos or each.videos for each in recipes)
    assert run(["learn", "on"]) == 0
    (learned,) = [ref for name, ref in store.pointers().items() if name.startswith("world_model_agent/")]
    assert str(whole.ref) in [each.ref for each in store.open(learned).manifest.parents]


def test_what_is_not_the_recipes_is_one_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(weights: dict[str, Tensor] | None, name: str, *more: str) -> str:
        if weights is not None:
            torch.save(weights, file)
        capsys.readouterr()
        assert brought(file, name, *more) in (1, 2)
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "fault of Worldline" not in printed.err, printed
        return printed.err

    task = ("--game", GAME)
    theirs = saved(file, "prelar")
    assert "weights of PreLAR's fine-tuning, not what the recipe says" in refused(theirs, "apv", *task)
    assert "weights of PreLAR's fine-tuning, not what the recipe says" in refused(None, "prelar_pretrain")
    assert "add --game, the task" in refused(None, "prelar")
    assert "Pong is played with 18 actions, and an agent of the family 'dreamer' says 2" in refused(
        None, "prelar", "--game", "Pong"
    )
    assert "Recipe 'iris' is not of the family 'dreamer': take prelar" in refused(None, "iris")
    assert "it lacks 'wm.rssm._cell._norm.bias' and 0 more; take" in refused(
        {name: each for name, each in theirs.items() if not name.endswith("rssm._cell._norm.bias")}, "prelar", *task
    )
    assert "has 'wm.more' and 0 more beyond" in refused(theirs | {"wm.more": torch.zeros(1)}, "prelar", *task)
    assert "has 'more' and 0 more beyond" in refused(theirs | {"more": torch.zeros(1)}, "prelar", *task)
    copied = "wm.af_rssm._cell._norm.bias"
    assert f"its copy '{copied}' differ" in refused(theirs | {copied: theirs[copied] + 1}, "prelar", *task)
    assert f"its copy '{copied}' differ" in refused(theirs | {copied: theirs[copied].double()}, "prelar", *task)
    bias = "wm.heads.decoder.convout.bias"
    assert "of another shape: decoder.outward.bias" in refused(theirs | {bias: torch.zeros(9)}, "prelar", *task)
    world = saved(file, "apv_pretrain")
    assert "weights of APV's pre-training, not what the recipe says" in refused(world, "dreamerv2", *task)
    assert "weights of APV's pre-training, not what the recipe says" in refused(None, "prelar", *task)
    assert "holds weights of a single network, or of none that is known here" in refused(
        {"x": torch.zeros(1)}, "prelar", *task
    )
    file.write_bytes(b"no checkpoint")
    assert "is no torch checkpoint" in refused(None, "prelar", *task)
    file.unlink()
    file.mkdir()
    assert "holds none of rssm_variables.pt, encoder_variables.pt" in refused(None, "prelar_pretrain")
    assert "Recipe 'dreamerv2' learns no videos" in refused(None, "dreamerv2", *task)
    torch.save({"x": torch.zeros(1)}, file / "rssm_variables.pt")
    assert "not what the recipe says: it lacks" in refused(None, "prelar_pretrain")
    assert not [*(tmp_path / "home" / "store").glob("imported*/*/*/manifest.json")]
