"""Configs of the learning stages refuse, before anything runs, what could only fail or mislead after hours."""

import re
from dataclasses import replace

import pytest

from pipelines.errors import UsageError
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import FinetuneConfig, PretrainConfig, TrainConfig
from pipelines.training.config import ImagineConfig, LoopConfig


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (
            LoopConfig,
            {"device": "tpu"},
            "loop.device 'tpu' is unknown: did you mean 'cpu'?",
        ),
        (LoopConfig, {"compile": "yes"}, "loop.compile 'yes' is unknown: choose from auto, on, off"),
        (
            LoopConfig,
            {"keep_last": 0, "evaluate_every": -1},
            "loop.evaluate_every -1 is impossible: it must be at least 0; loop.keep_last 0 is",
        ),
        (LoopConfig, {"precision": "fp8"}, "loop.precision 'fp8' is unknown: choose from auto, float32, bf16"),
        (LoopConfig, {"log_every": 0}, "log_every 0"),
        (LoopConfig, {"holdout_episodes": -1}, "holdout_episodes -1"),
        (LoopConfig, {"workers": -1}, "workers -1"),
        (PretrainConfig, {"sight_frames": 0}, "sight_frames 0 is impossible"),
        (TrainConfig, {"sight_frames": 0}, "sight_frames 0 is impossible"),
        (TokenizeConfig, {"precision": "half"}, "precision 'half' is unknown"),
        (TokenizeConfig, {"batch_frames": 0}, "batch_frames 0 is impossible: it must be at least 1"),
        (EvaluateConfig, {"precision": "half"}, "precision 'half' is unknown"),
        (EvaluateConfig, {"protocol": "stiky"}, "Unknown protocol 'stiky': did you mean 'sticky'?"),
        (EvaluateConfig, {"episodes": 0}, "episodes 0 is impossible: it must be at least 1"),
        (EvaluateConfig, {"beam_width": 0}, "beam_width 0 is impossible"),
        (EvaluateConfig, {"epsilon": 1.5}, "epsilon 1.5 is impossible: it must be from 0 to 1"),
        (EvaluateConfig, {"context": 0}, "context 0"),
        (EvaluateConfig, {"max_steps": -1}, "max_steps -1"),
        (EvaluateConfig, {"envs": -1}, "envs -1"),
        (EvaluateConfig, {"planner": "beem"}, "Unknown planner 'beem': did you mean 'beam'?"),
        (EvaluateConfig, {"planner": "beam", "beam_episodes": 2}, "plays beam search twice: set beam_episodes to 0"),
        (EvaluateConfig, {"settings": "jowa_15m"}, "Unknown set of settings 'jowa_15m': did you mean 'jowa_150m'?"),
        (EvaluateConfig, {"settings": "jowa_40m", "context": 3}, "settings jowa_40m and context 3: the set brings its"),
    ],
)
def test_refused(kind: type, fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        kind(**fields)


def test_names_of_the_same_rules_make_the_same_key_and_manners_none() -> None:
    sticky = EvaluateConfig(game="Pong", protocol="sticky")
    assert EvaluateConfig(game="Pong", protocol="machado").spec() == sticky.spec()
    assert EvaluateConfig(game="Pong", protocol="sticky", envs=3, rom_dir="roms").spec() == sticky.spec()
    assert EvaluateConfig(game="Pong", protocol="sticky", rom_md5="0" * 32).spec().key != sticky.spec().key
    assert not {"planner", "search", "settings", "rom_md5"} & set(sticky.spec().config)


def test_what_the_original_uses_is_accepted() -> None:
    assert PretrainConfig().subject == ""
    assert EvaluateConfig(game="Pong").spec().config["protocol"] == "jowa"


def test_what_fine_tuning_cannot_do_is_one_line() -> None:
    for field, value in (("episodes", 0), ("stride", 0), ("world_weight", -1.0)):
        with pytest.raises(UsageError, match=r"is impossible: it must be at least"):
            replace(FinetuneConfig(game="Pong"), **{field: value})
    for field in ("segments", "every", "capacity", "width", "horizon"):
        with pytest.raises(UsageError, match=f"imagine.{field} 0 is impossible"):
            ImagineConfig(**{field: 0})


def test_parts_and_kept_checkpoints_have_keys_of_their_own() -> None:
    plain = FinetuneConfig(game="Pong")
    parts = replace(plain, phases=tuple(replace(phase, accumulate=2) for phase in plain.phases))
    kept = replace(plain, loop=LoopConfig(checkpoint_every=5, evaluate_every=10))
    assert len({config.spec().ref.key for config in (plain, parts, kept)}) == 3
