"""Networks are loaded once as long as the checkpoint stays the same."""

import pytest

from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.training.checkpoints import Networks
from pipelines.training.device import pick
from tests.pipelines.conftest import TinyRun


def opened(tiny: TinyRun) -> tuple[Ref, Ref, dict[Ref, Artefact]]:
    model, tokenizer = tiny.made["world_action_model"], tiny.made["pretrained"]
    return model.ref, tokenizer.ref, {model.ref: model, tokenizer.ref: tokenizer}


def test_the_same_checkpoint_is_loaded_once_and_another_anew(tiny: TinyRun) -> None:
    model, tokenizer, parents = opened(tiny)
    networks, device = Networks(), pick("float32")
    first = networks.load("Pong", model, tokenizer, parents, device)
    assert networks.load("Boxing", model, tokenizer, parents, device) is first
    other = networks.load("Pong", tokenizer, None, parents, device)  # stage 1 holds both
    assert other is not first and not other[1].training
    assert networks.load("Pong", model, tokenizer, parents, pick("bf16")) is not first


def test_what_cannot_be_loaded_is_said(tiny: TinyRun) -> None:
    model, _, parents = opened(tiny)
    with pytest.raises(UsageError, match="Scores of Pong need a checkpoint"):
        Networks().load("Pong", None, None, parents, pick("float32"))
    with pytest.raises(UsageError, match="holds no tokenizer, without which Pong cannot be seen"):
        Networks().load("Pong", model, None, parents, pick("float32"))
