"""The GPU's benchmark on a CPU at a tiny size: the same code path, its figures against counts by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.jowa.config import JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.cli import run as worldline
from pipelines.errors import WorldlineError
from pipelines.tools.bench import train_device
from pipelines.tools.bench.flops import stage_2_flops
from pipelines.tools.bench.train_data import EPISODE, token_sources
from pipelines.tools.bench.train_device import DeviceSizes, Speed, profiles, run
from pipelines.training.device import Device

TINY = DeviceSizes(
    "tiny",
    JowaConfig(layers=1, heads=2, width=16, q_hidden=8, vocab_size=32, tokens_per_frame=3),
    TokenizerConfig(vocab_size=32, embed_dim=8, z_channels=8, channels=8, res_blocks=1),
    batch=4,
    workers=0,
    episodes=1,
    frames=5,
    warm_up=1,
    steps=2,
    matrix=64,
)
CPU = Device("cpu", True)


def test_every_figure_is_measured(tmp_path: Path) -> None:
    speed = run(TINY, CPU, tmp_path)
    assert min(speed.seconds, speed.waited, speed.matrix_flops, speed.frames) > 0
    assert speed.waited < speed.seconds and 0 < speed.utilisation < 1
    assert speed.peak_bytes is None and "| peak memory of tensors | not told by this device |  |" in speed.table()
    assert speed.plain()["segments"] == 4 and speed.plain()["device"] == "cpu, bf16"


def test_utilisation_is_operations_needed_over_operations_possible() -> None:
    """Half a step's operations at ten steps a second, of a device that does 20 of them a second: a quarter of it."""
    step = stage_2_flops(TINY.model, TINY.batch)
    speed = Speed(TINY, "a device", 1, 0.1, 0.001, 40.0 * step, 1.0, 2 * 10**9)
    assert speed.utilisation == pytest.approx(0.25) and not speed.reached
    assert speed.wait_share == pytest.approx(0.01)
    assert replace(speed, matrix_flops=20.0 * step).reached  # half of it
    assert not replace(speed, matrix_flops=20.0 * step, waited=0.002).reached
    text = speed.table()
    assert "25.0% = " in text and "45%: **missed**" in text and "below 2%: met" in text and "2.0 GB" in text
    assert "| time of 250,000 steps, extrapolated | 6.9 h |  |" in text


def test_memory_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_device, "update", lambda *_: torch.empty(1 << 55))
    with pytest.raises(
        WorldlineError, match=r"tiny with batches of 4 does not fit this device's memory: lower --batch"
    ):
        run(TINY, CPU, tmp_path)


def test_tokens_files_are_made_once_and_whole(tmp_path: Path) -> None:
    games = ("Pong", "Seaquest")
    first, again = (token_sources(tmp_path, 2, 3, 32, games) for _ in range(2))
    for ours, theirs in zip(first, again, strict=True):
        assert isinstance(ours.tokens_NK, np.memmap) and ours.tokens_NK.shape == (2 * EPISODE, 3)
        assert np.array_equal(ours.tokens_NK, theirs.tokens_NK) and ours.tokens_NK.max() == 31
        assert len(ours.segments) == 2 * EPISODE // 4
    assert len(list(tmp_path.iterdir())) == 2


def test_a_profile_names_what_takes_long(tmp_path: Path) -> None:
    (text,) = profiles(TINY, CPU, tmp_path)
    rows = text.splitlines()
    assert rows[0] == "| stage-2 step, tiny, top 10 | share | times |" and len(rows) == 12
    shares = [float(row.split("|")[2].strip(" %")) for row in rows[2:]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_the_command_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert worldline(["bench", "train", "--only", "gpu", "--batch", "64"]) == 0
    assert capsys.readouterr().out == (
        "no GPU: tokens/s, model FLOP utilisation, peak memory, loader wait and frames/s of jowa_150m with batches of "
        "64 were not measured\n"
    )


@pytest.mark.parametrize(("arguments", "rule"), [(["--only", "tpu"], "tpu"), (["--model", "1t"], "1t")])
def test_an_unknown_name_is_bad_usage(arguments: list[str], rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert worldline(["bench", "train", *arguments]) == 2
    assert rule in capsys.readouterr().err
