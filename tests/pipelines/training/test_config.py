"""Configs of the learning stages refuse, before anything runs, what could only fail or mislead after hours."""

import re

import pytest

from pipelines.errors import UsageError
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.training.config import LoopConfig, PhaseConfig, PretrainConfig, TrainConfig


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (PhaseConfig, {"objectives": ()}, "Phase 'p' has objectives (): choose from"),
        (PhaseConfig, {"objectives": ("wrold",)}, "Phase 'p' has objectives ('wrold',): choose from"),
        (PhaseConfig, {"objectives": ("world", "world_action")}, "'world_action' contains 'world', name one of them"),
        (PhaseConfig, {"steps": 0}, "has 0 steps"),
        (PhaseConfig, {"target_every": 0}, "target_every 0, accumulate 1: each must be at least 1"),
        (PhaseConfig, {"accumulate": 0}, "accumulate 0: each must be at least 1"),
        (PhaseConfig, {"segments": 2, "accumulate": 3}, "takes batches of 2 in 3 parts: lower its accumulate"),
        (PhaseConfig, {"lr_model": 0.0}, "lr_model 0.0"),
        (PhaseConfig, {"clip": -1.0}, "clip -1.0"),
        (PhaseConfig, {"warmup": -1}, "warmup -1"),
        (LoopConfig, {"device": "tpu"}, "loop.device 'tpu' is unknown: choose from auto, cpu, cuda"),
        (LoopConfig, {"compile": "yes"}, "loop.compile 'yes' is unknown: choose from auto, on, off"),
        (
            LoopConfig,
            {"keep_last": 0, "evaluate_every": -1},
            "evaluate_every -1 (at least 0), keep_last 0 (at",
        ),
        (LoopConfig, {"precision": "fp8"}, "Precision 'fp8' is unknown: choose from auto, float32, bf16"),
        (LoopConfig, {"log_every": 0}, "log_every 0"),
        (LoopConfig, {"holdout_episodes": -1}, "holdout_episodes -1"),
        (LoopConfig, {"workers": -1}, "workers -1"),
        (PretrainConfig, {"sight_frames": 0}, "sight on 0 frames is impossible"),
        (TrainConfig, {"sight_frames": 0}, "sight on 0 frames is impossible"),
        (TokenizeConfig, {"precision": "half"}, "Precision 'half' is unknown"),
        (TokenizeConfig, {"batch_frames": 0}, "batch_frames is at least 1"),
        (EvaluateConfig, {"precision": "half"}, "Precision 'half' is unknown"),
        (EvaluateConfig, {"protocol": "stiky"}, "Unknown protocol 'stiky': did you mean 'sticky'?"),
        (EvaluateConfig, {"episodes": 0}, "episodes 0 is impossible: it must be at least 1"),
        (EvaluateConfig, {"beam_width": 0}, "beam_width 0 is impossible"),
        (EvaluateConfig, {"epsilon": 1.5}, "epsilon 1.5 is impossible: it must fall within 0 and 1"),
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
    given = {"name": "p", "objectives": ("world",), "steps": 1} | fields if kind is PhaseConfig else fields
    with pytest.raises(UsageError, match=re.escape(words)):
        kind(**given)


def test_names_of_the_same_rules_make_the_same_key_and_manners_none() -> None:
    sticky = EvaluateConfig(game="Pong", protocol="sticky")
    assert EvaluateConfig(game="Pong", protocol="machado").spec() == sticky.spec()
    assert EvaluateConfig(game="Pong", protocol="sticky", envs=3, rom_dir="roms").spec() == sticky.spec()
    assert EvaluateConfig(game="Pong", protocol="sticky", rom_md5="0" * 32).spec().key != sticky.spec().key
    assert not {"planner", "search", "settings", "rom_md5"} & set(sticky.spec().config)


@pytest.mark.parametrize(
    ("kind", "objectives", "words"),
    [
        (PretrainConfig, ["world_action"], "'p0' has objective 'world_action', which its stage does not train: choose"),
        (
            TrainConfig,
            ["tokenizer"],
            "objective 'tokenizer', which its stage does not train: choose from world, world_",
        ),
        (TrainConfig, ["world", "world_action"], "Phases same, same share a name: give each one of its own"),
    ],
)
def test_phases_that_do_not_fit_their_stage_are_refused(kind: type, objectives: list[str], words: str) -> None:
    names = ["same", "same"] if len(objectives) == 2 else ["p0"]
    phases = tuple(PhaseConfig(name, (goal,), 1) for name, goal in zip(names, objectives, strict=True))
    with pytest.raises(UsageError, match=re.escape(words)):
        kind(phases=phases)


def test_what_the_original_uses_is_accepted() -> None:
    assert PretrainConfig().subject == ""
    assert EvaluateConfig(game="Pong").spec().config["protocol"] == "jowa"
    assert PhaseConfig("both", ("tokenizer", "world"), 1).frames == 2048
