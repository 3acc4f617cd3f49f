"""What of REM does not fit is one line, through the command: golden files, experiments; what an import cannot tell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.rem.agent import RemAgent
from pipelines.cli import run
from pipelines.training.weight_files import original_files
from tests.models.parity.golden_files import Arrays, load, path_of, restated
from tests.models.rem.small_rem import CONFIG
from tests.pipelines.commands.pong_files import SETS, pong

REM = path_of("rem_options")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return load(REM)


def refused(file: Path, arrays: Arrays, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which `worldline parity` refuses a file."""
    np.savez(file, **arrays)  # type: ignore[arg-type]
    capsys.readouterr()
    assert run(["parity", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out, printed
    return printed.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(retention_block=5), "12 tokens do not divide into blocks of 5: give whole blocks"),
        (lambda c: c.update(retnet_chunks=[0, 68]), "retnet_chunks (0, 68), which are no parts of 4 blocks of 17 tok"),
        (lambda c: c.update(retention_split=99), "retention_split 99, which parts no sequence of 12 tokens"),
        (lambda c: c["world_model"]["retnet"].update(blocks_per_chunk=0), "blocks_per_chunk 0 is impossible"),
        (lambda c: c["world_model"].update(context_length=7), "world_model.context 7 leaves none of 7 blocks to learn"),
        (
            lambda c: c["tokenizer"]["encoder"].update(num_downsample_steps=3),
            "states blocks of 16 tokens and an action, where a frame has 64 tokens",
        ),
        (lambda c: c["tokenizer"]["encoder"].update(norm_num_groups=32), "do not divide into 32 norm groups"),
        (lambda c: c.update(num_actions=4), "embedding.weight (47, 32) for (45, 32)"),
        (lambda c: c["actor_critic"].update(use_original_obs=True), "use_original_obs = True, where this project has"),
    ],
)
def test_a_file_that_states_what_does_not_fit(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, words: str
) -> None:
    assert words in refused(tmp_path / "odd.npz", restated(arrays, change), capsys)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("draws/imagine/tokens", lambda a: a[:, :-1], "is (3, 4, 16), and (3, 5, 16) fits what the file states"),
        ("draws/imagine/tokens", lambda a: a + 40, "and there are 40"),
        ("draws/imagine/rewards_class", lambda a: a + 3, "and there are 3"),
        ("draws/imagine/ends", lambda a: a[:2], "is (2, 6), and (3, 6) fits what the file states"),
        ("draws/imagine/actions", lambda a: a - 6, "and there are 6"),
        ("draws/act/actions", lambda a: a[:, :1], "is (3, 1), and (3, 4) fits what the file states"),
        ("batch/world_model/actions", lambda a: a + 6, "and there are 6"),
    ],
)
def test_draws_and_actions_that_do_not_fit(
    arrays: Arrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    said = refused(tmp_path / "odd.npz", arrays | {name: change(arrays[name])}, capsys)
    assert f"input {name} " in said and words in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["world_model.context=10"], "world_model.context 10 leaves none of 10 blocks to learn: lower it"),
        (["actor_critic.horizon=11"], "world_model.max_steps 10: give 3 to 10"),
        (["world_model.blocks_per_chunk=0"], "world_model.blocks_per_chunk 0 is impossible: it must be at least 1"),
        (["tokenizer.resolution=60"], "Resolution 60 does not divide by patch_stem 1 times downsample (2, 2, 2) = 8"),
        (["tokenizer.resolution=32"], "tokenizer.resolution is 32 but actor_critic.resolution is 64"),
        (["world_model.num_actions=5"], "world_model.num_actions is 5 but actor_critic.num_actions is 18"),
        (["tokenizer.embed_dim=128"], "tokenizer.embed_dim 128 cannot be read by a world model of width 256"),
        (["tokenizer.decoder_groups=3"], "do not divide into 3 norm groups"),
        (["world_model.width=260"], "Width 260 in 4 heads: give heads of a multiple of 8 numbers"),
    ],
)
def test_an_experiment_whose_numbers_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: list[str], words: str
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    sets = [text for each in changes for text in ("--set", f"learn.{each}")]
    assert run(["experiment", "new", "odd", "--recipe", "rem", "--games", "Pong", *sets]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and words in printed.err, printed
    assert not (tmp_path / "home" / "experiments").exists()


def test_an_import_says_that_names_do_not_tell_how_a_decoder_norms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_QUIET", raising=False)
    torch.save(original_files(RemAgent(pong(CONFIG), seed=4), {}, {})["last.pt"], tmp_path / "Pong.pt")
    command = ["import", "rem", "--file", str(tmp_path / "Pong.pt"), *SETS]
    assert run([*command, "--name", "plain"]) == 0
    said = capsys.readouterr().err
    assert "Its decoder is read with 2 norm groups. Those of before February 2024 have 32 under the same names" in said
    assert "--set tokenizer.decoder_groups=32" in said
    assert run([*command, "--name", "old", "--set", "tokenizer.decoder_groups=4"]) == 0
    assert "norm groups" not in capsys.readouterr().err
