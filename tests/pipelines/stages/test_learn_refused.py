"""What `worldline learn` cannot do is one line, through the command, and leaves nothing; what only looks odd works."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.registry import family_of
from pipelines.cli import run
from pipelines.episodes.experience import ORIGIN, TURNS
from pipelines.episodes.trajectories import FILE_NAME
from pipelines.recipes.registry import recipe
from pipelines.stages.train import PretrainConfig
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store
from pipelines.training import state
from pipelines.training.checkpoints import name_parts, save_agent
from tests.fakes import spec
from tests.models.parity.golden_files import load, path_of
from tests.once import made_once
from tests.pipelines.stages.tiny_iris import GAME, ONLINE, SMALL, new


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which an agent has learned Breakout from 40 steps; nobody changes it."""

    def build(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WORLDLINE_HOME", str(folder / "home"))
            patch.setenv("WORLDLINE_QUIET", "1")
            patch.delenv("WORLDLINE_STORAGE", raising=False)
            assert new("first", "iris", ONLINE) == 0
            assert run(["learn", "first"]) == 0

    return made_once(tmp_path_factory, "first-learned", build) / "home"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    yield tmp_path / "home"
    assert not list((tmp_path / "home").glob("store/.partial/*")), "nothing is half-written"


@pytest.fixture
def learned(first: Path, home: Path) -> Artefact:
    """What `first` learned, in a home of one's own."""
    shutil.copytree(first, home)
    store = Store(home / "store")
    (ref,) = {ref for name, ref in store.pointers().items() if name.startswith("world_model_agent/first-")}
    return store.open(ref)


def manifests(home: Path) -> set[Path]:
    return {*home.glob("store/*/*/*/manifest.json")}


def refused(capsys: pytest.CaptureFixture[str], home: Path, code: int, *arguments: str) -> str:
    """The one line of a command that fails; there are as many artefacts as before, and no part of one."""
    before = manifests(home)
    capsys.readouterr()
    assert run([*arguments]) == code
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out, printed
    assert "Traceback" not in printed.err and "fault of Worldline" not in printed.err
    assert manifests(home) == before and not list(home.glob("store/.partial/*"))
    return printed.err.strip()


def frozen_not(capsys: pytest.CaptureFixture[str], of: str, changes: list[str], game: str = GAME) -> str:
    """The one line with which an experiment is refused."""
    capsys.readouterr()
    assert new("odd", of, changes, game) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out
    return printed.err.strip()


# ---- a game without replay, trajectories that are not there, a turn of play where nothing is played ----


def test_a_game_without_replay(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Unknown game 'Alienn': did you mean 'Alien'?" in frozen_not(capsys, "iris_offline", SMALL, "Alienn")
    assert frozen_not(capsys, "iris_offline", [*SMALL, "source=collected"], "Alien") == (
        "Recipe 'iris_offline' has source=collected and no stage 'collect' that would play Alien: set source=bucket, "
        "or source=imported and import its episodes"
    )
    assert new("alien", "iris_offline", SMALL, "Alien") == 0
    assert refused(capsys, home, 2, "learn", "alien") == (
        "Recipe 'iris_offline' reads Alien/1 from a bucket but the storage profile names none: set replay_root in it, "
        "or give the one that does with --storage"
    )
    (tmp_path / "bucket" / "Pong").mkdir(parents=True)
    (tmp_path / "here.yaml").write_text(f"replay_root: file://{tmp_path}/bucket\n")
    said = refused(capsys, home, 1, "learn", "alien", "--storage", str(tmp_path / "here.yaml"))
    assert said.endswith("/bucket holds Pong): check the bucket URL, game and agent")


def test_offline_without_trajectories(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "learn.collect.steps is 0 and there are no trajectories to learn from: take a recipe that makes some" in (
        frozen_not(capsys, "iris", [*SMALL, "learn.collect.steps=0"])
    )
    assert "names no imported trajectories of Breakout: run 'worldline import trajectories PATH --game Breakout'" in (
        frozen_not(capsys, "iris_offline", [*SMALL, "source=imported"])
    )
    assert new("absent", "iris_offline", [*SMALL, "source=imported", f"import.contents={GAME}:{'0' * 64}"]) == 0
    said = refused(capsys, home, 1, "learn", "absent")
    assert "imported_trajectories/Breakout/" in said and "is not in the store" in said


@pytest.mark.parametrize(
    ("of", "changes", "words"),
    [
        (
            "iris_offline",
            ["learn.collect.steps=9", "learn.collect.protocol=jowa"],
            "plays learns from its own play alone",
        ),
        ("iris", ["learn.collect.steps=9", "source=imported"], "plays learns from its own play alone"),
        (
            "iris_offline",
            ["learn.collect.first_steps=9"],
            "first_steps is 9 and learn.collect.steps 0, which plays noth",
        ),
        ("iris_offline", ["learn.collect.environments=0"], "learn.collect.environments is 0: play in at least 1"),
        ("iris_offline", ["learn.collect.steps=-1"], "learn.collect.steps -1 is impossible"),
    ],
)
def test_collection_asked_for_offline(
    home: Path, capsys: pytest.CaptureFixture[str], of: str, changes: list[str], words: str
) -> None:
    assert words in frozen_not(capsys, of, [*SMALL, *changes])
    assert not home.exists(), "nothing was frozen"


# ---- checkpoints ----


def test_an_agent_that_learns_on_from_a_checkpoint_is_of_its_family_and_actions(
    learned: Artefact, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_family(draft: Draft) -> None:
        networks = recipe("mini").of(PretrainConfig).networks
        agent = family_of(networks).build(networks)
        save_agent(draft.folder, agent)
        name_parts(draft, agent)

    jowa = Store(home / "store").produce(spec("pretrained", "mini"), other_family).artefact
    for name, game, more, said in (
        (
            "other",
            GAME,
            [f"learn.agent={jowa.ref}"],
            "is of the family 'jowa', and 'iris' learns here: name an agent of",
        ),
        (
            "actions",
            "Pong",
            [f"learn.agent={learned.ref}"],
            "knows 4 actions (0, 1, 3, 4), and 6 actions (0, 1, 3, 4, 11, 12) are learned here: name an agent of",
        ),
        (
            "sizes",
            GAME,
            [f"learn.agent={learned.ref}", "learn.world_model.width=8"],
            "weight 'transformer.blocks.0.ln1.weight' of 'world_model' is (16,), here (8,): set the sizes of",
        ),
        (
            "heads",
            GAME,
            [f"learn.agent={learned.ref}", "learn.world_model.heads=1"],
            "which learn.agent names, has world_model.heads 2, here it is 1: the same weights would mean something",
        ),
        ("none", GAME, [f"learn.agent=imported/first/{'0' * 16}"], f"imported/first/{'0' * 16} is not in the store"),
    ):
        assert new(name, "iris", [*ONLINE, *more], game) == 0
        assert said in refused(capsys, home, 1 if name == "none" else 2, "learn", name), name
    assert refused(capsys, home, 2, "finetune", "first", "--game", GAME) == (
        "Recipe 'iris' has an agent of the family 'iris', and only those of 'jowa' are fine-tuned on episodes: let "
        "'worldline learn' go on with it (learn.agent)"
    )
    assert "name an address, stage/subject/key" in frozen_not(capsys, "iris", [*ONLINE, "learn.agent=first"])


def test_a_fixed_tokenizer_is_the_checkpoints_bit_for_bit_and_settings_are_the_recipes(
    learned: Artefact, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [each for each in ONLINE if not each.startswith("learn.uses.tokenizer")]
    assert (
        new("on", "iris_fixed_tokenizer", [*changes, f"learn.agent={learned.ref}", "learn.actor_critic.gamma=0.5"]) == 0
    )
    assert run(["learn", "on"]) == 0
    store = Store(home / "store")
    (ref,) = {ref for name, ref in store.pointers().items() if name.startswith("world_model_agent/on-")}
    made = store.open(ref)
    kept = {name: part.sha256 for name, part in made.manifest.parts.items()}
    before = {name: part.sha256 for name, part in learned.manifest.parts.items()}
    assert kept["tokenizer"] == before["tokenizer"] and kept["world_model"] != before["world_model"]
    assert [entry.ref for entry in made.manifest.parents] == [str(learned.ref)]
    assert json.loads(made.path("agent.json").read_text())["config"]["actor_critic"]["gamma"] == 0.5
    assert "untrained" not in made.manifest.metrics and "untrained" not in learned.manifest.metrics


@pytest.mark.slow
def test_an_oracle_says_what_becomes_of_the_world_model_that_it_does_not_need(
    learned: Artefact, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [each for each in ONLINE if not each.startswith("learn.uses.world_model")]
    assert new("with", "iris_oracle", [*changes, f"learn.agent={learned.ref}"]) == 0
    assert new("without", "iris_oracle", changes) == 0
    monkeypatch.delenv("WORLDLINE_QUIET")
    said = {}
    for name in ("with", "without"):
        assert run(["learn", name]) == 0
        said[name] = capsys.readouterr().err
    assert f"nothing trains world_model, kept as {learned.ref} has it" in said["with"]
    assert (
        "nothing trains world_model, and learn.agent names nobody who has it: it stays as it was drawn"
        in (said["without"])
    )
    store = Store(home / "store")
    made = {
        name: store.open(ref).manifest
        for key, ref in store.pointers().items()
        for name in ("with", "without")
        if key.startswith(f"world_model_agent/{name}-")
    }
    assert made["with"].parts["world_model"].sha256 == learned.manifest.parts["world_model"].sha256
    assert "untrained" not in made["with"].metrics and made["without"].metrics["untrained"] == ["world_model"]


# ---- experience and trajectories that are not what they were ----


def interrupted(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """The experience of a run that was stopped behind its first state; the run is called 'cut'."""
    real = state.save

    def save(folder: Path, *rest: object) -> None:
        real(folder, *rest)
        raise KeyboardInterrupt

    assert new("cut", "iris", ONLINE) == 0
    with monkeypatch.context() as patch:
        patch.setattr(state, "save", save)
        assert run(["learn", "cut"]) == 130
    (turns,) = home.rglob(TURNS)
    return turns.parent


def test_experience_that_is_not_what_was_played(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut short, of frames of another size, of another ROM, emulator or game: the run ends, and is not begun anew."""
    folder = interrupted(monkeypatch, home)
    whole, origin = (folder / "0.frames").read_bytes(), json.loads((folder / ORIGIN).read_text())
    (folder / "0.frames").write_bytes(whole[:-1])
    assert "0.frames has 491519 bytes, 491520 were written): delete its" in refused(capsys, home, 1, "learn", "cut")
    (folder / "0.frames").write_bytes(whole)
    for name, other in (("frame", [84, 84]), ("rom_md5", "0" * 32), ("emulator", "ale-py 9"), ("game", "Pong")):
        (folder / ORIGIN).write_text(json.dumps(origin | {name: other}))
        assert refused(capsys, home, 1, "learn", "cut") == (
            f"{folder} was played with {name} {other}, here it is {origin[name]}: play with that one again, or delete "
            "its parent folder, and the training starts anew"
        )
    shutil.rmtree(folder.parent)
    assert run(["learn", "cut"]) == 0, "the repair that was named"


def brought(artefact: Artefact, frame: str = "84,84,1") -> list[str]:
    """The changes by which `iris_offline` learns from what an agent played, once it is imported."""
    played = artefact.path(FILE_NAME)
    content = hashlib.sha256(played.read_bytes()).hexdigest()
    return [*SMALL, *sees(frame), "source=imported", f"import.contents={GAME}:{content}"]


def sees(frame: str) -> list[str]:
    """The changes by which `iris_offline` sees frames of that size, in play too."""
    rules = "jowa" if frame == "84,84,1" else "iris"
    return [f"learn.frame={frame}", f"learn.check.protocol={rules}", f"evaluate.protocol={rules}"]


def test_trajectories_of_another_size_and_a_file_that_was_cut(
    learned: Artefact, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "trajectories", str(learned.path(FILE_NAME)), "--game", GAME]) == 0
    assert new("grey", "iris_offline", brought(learned)) == 0
    assert refused(capsys, home, 2, "learn", "grey") == (
        "Frames of (64, 64, 3) are learned from and the networks see (84, 84, 1) (height, width, colours): take data "
        "of that size, or change what they see (resolution, frame_channels or frame of their config)"
    )
    (file,) = home.glob(f"store/imported_trajectories/{GAME}/*/{FILE_NAME}")
    file.write_bytes(file.read_bytes()[:-9])
    assert new("colour", "iris_offline", brought(learned, "64,64,3")) == 0
    assert f"{file.parent.name} is damaged: " in refused(capsys, home, 1, "learn", "colour")


# ---- what looks odd and works ----


@pytest.mark.slow
def test_segments_longer_than_every_episode_are_padded_and_it_is_said(
    learned: Artefact, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short"
    short.mkdir()
    rng = np.random.default_rng(0)
    for episode, steps in enumerate((1, 3, 2, 1)):
        np.savez(
            short / f"{episode}.npz",
            observations=rng.integers(0, 256, (steps, 64, 64, 3), dtype=np.uint8),
            actions=rng.integers(0, 4, steps),
            rewards=rng.integers(-1, 2, steps),
            terminals=np.arange(steps) == steps - 1,
        )
    (short / "meta.json").write_text(json.dumps({"game": GAME}))
    assert run(["import", "trajectories", str(short), "--game", GAME]) == 0
    (contents,) = [word for word in capsys.readouterr().out.split() if word.startswith("import.contents=")]
    changes = [*SMALL, *sees("64,64,3"), "source=imported", contents, "learn.actor_critic.burn_in=9"]
    assert new("short", "iris_offline", changes) == 0
    monkeypatch.delenv("WORLDLINE_QUIET")
    assert run(["learn", "short"]) == 0
    printed = capsys.readouterr()
    assert (
        "Learn Breakout: no episode is longer than 3 steps, so all segments of world_model, actor_critic are padded"
        in printed.err
    )
    store = Store(home / "store")
    (made,) = [store.open(ref) for name, ref in store.pointers().items() if name.startswith("world_model_agent/short-")]
    assert made.manifest.metrics["all_padded"] == ["world_model", "actor_critic"]
    rows = [json.loads(line) for line in made.path("metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float)) and rows
    (check,) = made.manifest.checks
    assert (check.name, check.passed) == ("sees", False)
    assert check.detail == "Breakout: not measured, its last episodes are of one step"


@pytest.mark.slow
def test_a_horizon_beyond_the_models_context_forgets_and_goes_on(home: Path) -> None:
    """IRIS's cache is emptied of all but the newest frame, in imagination as in play."""
    assert new("far", "iris", [*ONLINE, "learn.world_model.max_steps=2", "learn.actor_critic.horizon=7"]) == 0
    assert run(["learn", "far"]) == 0
    (rows,) = home.glob("store/world_model_agent/*/*/metrics.jsonl")
    told = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row for row in told if row["phase"] == "rounds/actor_critic" and np.isfinite(row["values"])]


def test_a_context_of_one_step_foresees_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "learn.world_model.max_steps is 1: it could not foresee a frame, which follows a step; give 2 or more" in (
        frozen_not(capsys, "iris", [*ONLINE, "learn.world_model.max_steps=1"])
    )


# ---- files of others ----


def test_a_gpt2_without_all_its_blocks(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, prefix = load(path_of("thesis_gpt2")), "weights/hf/"
    theirs = {name.removeprefix(prefix): torch.tensor(each) for name, each in arrays.items() if name.startswith(prefix)}
    torch.save({name: each for name, each in theirs.items() if ".h.1." not in name}, tmp_path / "gpt2.bin")
    digest = hashlib.sha256((tmp_path / "gpt2.bin").read_bytes()).hexdigest()
    sizes = ["learn.world_model.layers=3", "learn.world_model.width=32", "learn.collect.steps=40"]
    named = [f"learn.gpt2_file={tmp_path / 'gpt2.bin'}", f"learn.gpt2_sha256={digest}"]
    assert new("gpt", "iris_gpt2_pretrained", [*SMALL, *sizes, *named]) == 0
    said = refused(capsys, home, 2, "learn", "gpt")
    assert said.startswith("Training cannot begin: These are no weights of a GPT-2 of 3 layers and width 32: h.1.ln_1.")
    assert said.endswith("is missing, 12 in all; give a file of that size")
    assert not list(home.rglob("0.frames")), "refused before a step is played"


def test_an_oracle_offline(learned: Artefact, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "trajectories", str(learned.path(FILE_NAME)), "--game", GAME]) == 0
    assert new("oracle", "iris_offline", [*brought(learned, "64,64,3"), "learn.oracle=true"]) == 0
    assert refused(capsys, home, 2, "learn", "oracle") == (
        "Training cannot begin: oracle practises in the game, and none is played here: set learn.collect.steps, or "
        "oracle=false"
    )
