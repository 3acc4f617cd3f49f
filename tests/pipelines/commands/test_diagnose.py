"""`worldline diagnose` on a tiny run: its artefact, page and words; and bad requests in one line."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import run
from pipelines.environments.atari import roms
from pipelines.stages.diagnose import ARRAYS, NUMBERS, PAGE, PICTURE
from tests.pipelines.conftest import TinyRun

SHORT = [
    "--set", "diagnose.states=5", "--set", "diagnose.every=2", "--set", "diagnose.steps=3", "--set",
    "diagnose.episodes=2",
]  # fmt: skip


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


def test_it_says_what_fails_with_numbers_pictures_and_lineage(
    ours: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diagnose", "tiny", "--game", "breakout", *SHORT]) == 0
    printed = capsys.readouterr().out
    (name,) = [name for name in ours.store.pointers() if name.startswith("diagnosed/")]
    artefact = ours.store.open(ours.store.resolve(name))
    said = json.loads(artefact.path(NUMBERS).read_text())
    assert said["fails"] in ("values", "world model", "planner", "nothing", "undecided") and said["words"] in printed
    assert f"Page         {artefact.path(PAGE)}" in printed and name in printed
    assert (
        set(said["points"]) == {"greedy", "imagined", "emulator", "search", "rewards"}
        and sum(said["best_by_real"]) == 5
    )
    assert said["actions"] == ["NOOP", "FIRE", "RIGHT", "LEFT"] and sum(said["shares"]) == pytest.approx(1)
    page = artefact.path(PAGE).read_text()
    assert "What fails" in page and "data:image/png;base64" in page and "http" not in page
    assert artefact.path(PICTURE).stat().st_size > 1000
    parents = {entry.ref for entry in artefact.manifest.parents}
    assert parents == {str(ours.made[stage].ref) for stage in ("world_action_model", "trajectories")}
    (root,) = artefact.manifest.roots
    assert root["protocol"] == "sticky" and len(root["seeds"]) == 3 and root["game"] == "Breakout"
    assert len(root["rom_md5"]) == 32
    with np.load(artefact.path(ARRAYS)) as arrays:
        assert arrays["q_SA"].shape == arrays["real_SA"].shape == (5, 4)
        again = {key: arrays[key].copy() for key in arrays}
    assert run(["diagnose", "tiny", *SHORT]) == 0
    assert "already" in capsys.readouterr().out
    assert run(["diagnose", "tiny", *SHORT, "--remake"]) == 0
    with np.load(ours.store.open(ours.store.resolve(name)).path(ARRAYS)) as arrays:
        assert all(np.array_equal(arrays[key], again[key]) for key in again), "the same seed sees the same"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny", "--game", "Pong"], "Game 'Pong' is not in recipe 'mini': it has Breakout"),
        (["tiny", "--set", "diagnose.states=0"], "states 0 is impossible"),
        (["tiny", "--set", "diagnose.planner=mcts"], "diagnose.planner 'mcts' is not read"),
        (["tiny", "--set", "diagnose.epsilon=0.5"], "diagnose.epsilon '0.5' is not read"),
        (["tiny", "--set", "diagnose.search.sample=true"], "diagnose.search.sample 'True' is not read"),
        (["tiny", "--set", "diagnose.episodes=1"], "diagnose.episodes 1 says nothing about the error"),
        (["tiny", "--set", "evaluate.protocol=jowa"], "--set 'evaluate.protocol=jowa' is none of a diagnosis"),
        (["tiny", "--set", "diagnose.protocol=iris"], "'iris' shows frames of (64, 64, 3) and the agent sees"),
        (["tiny", "--set", "diagnose.protocol=crafter"], "Breakout cannot be played under 'crafter'"),
        (["tiny", "--set", "diagnose.protocol=jowa+noise0.1"], "set diagnose.protocol=jowa"),
        (["tiny", "--set", "diagnose.context=500"], "set diagnose.context to"),
        (["tiny", "--set", "diagnose.search.leaf=state"], "learned no value of states"),
    ],
)
def test_what_cannot_be_diagnosed_is_one_line(
    ours: TinyRun, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["diagnose", *arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1
    assert not [name for name in ours.store.pointers() if name.startswith("diagnosed/")]


@pytest.mark.slow
def test_a_rom_of_yours_is_looked_at_and_named(
    ours: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # ale-py's own, twice in a row as cartridges of twice the size hold it, stands for one.
    mine = roms.shipped("Breakout").path.read_bytes() * 2
    (tmp_path / "roms").mkdir()
    (tmp_path / "roms" / "mine.bin").write_bytes(mine)
    md5 = hashlib.md5(mine).hexdigest()
    monkeypatch.setitem(roms._REPLAY_MD5, "Breakout", md5)
    folder = ["--set", f"diagnose.rom_dir={tmp_path / 'roms'}", "--set", f"diagnose.rom_md5={md5}"]
    assert run(["diagnose", "tiny", *SHORT, "--set", "diagnose.steps=0", *folder]) == 0
    (name,) = [name for name in ours.store.pointers() if name.startswith("diagnosed/")]
    (root,) = ours.store.open(ours.store.resolve(name)).manifest.roots
    assert (root["rom_md5"], root["rom"]) == (md5, "yours")
    capsys.readouterr()
    assert run(["diagnose", "tiny", "--set", f"diagnose.rom_md5={'0' * 32}"]) == 1
    printed = capsys.readouterr().err
    assert "The ROM of Breakout has md5" in printed and f"not {'0' * 32}" in printed and printed.count("\n") == 1
