"""What was played and kept is learned from: an experiment of its own, whose parent is the recording itself."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.artefact import Artefact
from tests.pipelines.conftest import TinyRun

QUICK = (
    "--set", "finetune.phases.expert.steps=3", "--set", "finetune.phases.expert.uses.tokenizer.batch=4",
    "--set", "finetune.phases.expert.uses.world_action.batch=2", "--set", "finetune.sight_frames=4",
    "--set", "finetune.loop.precision=float32",
)  # fmt: skip


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


def recorded(ours: TinyRun, mode: str) -> tuple[str, Artefact]:
    """A recording by its name."""
    assert run(["play", "tiny", "--headless", "--mode", mode, "--steps", "40", "--seed", "3"]) == 0
    (name,) = [name for name in ours.store.pointers() if name.startswith("recordings/") and f"/{mode}-" in name]
    return name, ours.store.open(ours.store.resolve(name))


@pytest.mark.parametrize("mode", ["game", pytest.param("agent", marks=pytest.mark.slow)])
def test_a_checkpoint_learns_on_from_what_was_played(ours: TinyRun, mode: str) -> None:
    name, recording = recorded(ours, mode)
    assert run(["finetune", "tiny", "--game", "Breakout", "--from", name, *QUICK]) == 0
    own = f"tiny-Breakout-recording-{recording.ref.key[:8]}"
    found = find(ours.home / "experiments", own)
    finetuned = ours.store.open(ours.store.resolve(f"finetuned/{found.key}/Breakout"))
    before = ours.made["world_action_model"]
    assert [entry.ref for entry in finetuned.manifest.parents] == [str(before.ref), str(recording.ref)]
    assert finetuned.manifest.counts["frames"] == 40 and "recording" not in finetuned.manifest.config
    old, new = (load_file(each.path("model.safetensors")) for each in (before, finetuned))
    assert any(not (old[key] == new[key]).all() for key in old), "it learned"
    assert run(["play", own, "--headless", "--mode", "agent", "--steps", "2"]) == 0, "and plays"


def test_what_cannot_be_learned_from_is_one_line(ours: TinyRun, capsys: pytest.CaptureFixture) -> None:
    (dream, _), (game, _) = recorded(ours, "dream"), recorded(ours, "game")
    known = set(Path(ours.home / "experiments").iterdir())
    capsys.readouterr()
    for words, code, arguments in (
        ("holds no episodes of the game itself: record some first", 2, ["--game", "Breakout", "--from", dream]),
        ("holds Breakout, not Pong: say --game Breakout", 2, ["--game", "Pong", "--from", game]),
        ("recordings/nix", 1, ["--game", "Breakout", "--from", "recordings/nix"]),
        ("3 expert episodes of Breakout are wanted", 2, ["--game", "Breakout", "--from", game, "--episodes", "3"]),
    ):
        assert run(["finetune", "tiny", *arguments, *QUICK]) == code, words
        printed = capsys.readouterr()
        assert words in printed.err and "Traceback" not in printed.err and printed.err.count("\n") == 1
    for made in set(Path(ours.home / "experiments").iterdir()) - known:
        assert "Breakout-recording" in made.name, "only the last of these is known before its data are read"
