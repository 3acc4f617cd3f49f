"""What a golden file states becomes our configuration, and what it states otherwise than we know is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from models.jowa.config import JowaConfig
from models.parity.jowa.config import model_config, planner, stages, tokenizer_config
from models.planning.beam import Beam, Greedy
from models.tokenizers.config import TokenizerConfig
from tests.models.parity.golden_files import JOWA, load


@pytest.fixture(scope="module")
def text() -> str:
    return str(load(JOWA)["meta/config"])


@pytest.fixture
def stated(text: str) -> dict[str, Any]:
    return json.loads(text)


def test_the_stated_sizes_and_options_are_ours(stated: dict[str, Any]) -> None:
    tokenizer = TokenizerConfig(64, 16, 16, 8, (1, 1, 1), res_blocks=2, norm_groups=2, downsample=(7, 2))
    assert tokenizer_config(stated) == (tokenizer, 1.0)
    model = JowaConfig(vocab_size=64, layers=2, heads=2, width=32, dropout=0.0, q_hidden=24, q_dropout=0.0)
    assert model_config(stated, stated["action"]) == (model, 2)


def test_a_stage_overlays_options_of_its_own(stated: dict[str, Any]) -> None:
    found = {stage.name: stage for stage in stages(stated)}
    assert list(found) == ["tokenizer", "stage1", "stage2", "stage2_finetune"]
    assert [stage.objective for stage in found.values()] == ["tokenizer", "world", "world_action", "world_action"]
    assert (found["stage2"].model.world_weight, found["stage2_finetune"].model.world_weight) == (0.1, 0.5)
    stated["stages"]["stage2"]["action"] = {"q_penalty": None, "use_rem": True, "q_loss_backwards_wm": False}
    (model,) = (stage.model for stage in stages(stated) if stage.name == "stage2")
    assert (model.penalty, model.random_mixture, model.q_trains_trunk) == ("none", True, False)


def test_planners_are_called_by_name(stated: dict[str, Any]) -> None:
    assert planner(stated, "greedy") == Greedy() and planner(stated, "beam_w4_h2") == Beam(4, 2)
    stated["planners"]["tree"] = {"kind": "mcts", "simulations": 5}
    with pytest.raises(ValueError, match="planner tree is of kind 'mcts'"):
        planner(stated, "tree")
    with pytest.raises(KeyError, match="oracle"):
        planner(stated, "oracle")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["transformer"].update(attn_pdrop=0.1), r"attn_pdrop = 0\.1, where this project has 0\.0 alone"),
        (lambda c: c["constants"].update(layer_norm_eps=1e-6), "layer_norm_eps"),
        (lambda c: c["action"].update(optimism=1), r"states 'action\.optimism', which is not known here"),
        (lambda c: c["critic_head"].pop("num_q"), r"does not state 'critic_head\.num_q'"),
        (lambda c: c["stages"]["stage1"].pop("lr"), "does not state 'lr'"),
        (lambda c: c["stages"]["stage1"].update(objective="dreams"), "stage stage1 has objective 'dreams'"),
        (lambda c: c["stages"]["stage1"].update(train_critic=True), "stage stage1 trains the critic if, and only if"),
    ],
)
def test_what_is_stated_otherwise_is_refused(
    stated: dict[str, Any], change: Callable[[dict[str, Any]], object], words: str
) -> None:
    change(stated)
    with pytest.raises(ValueError, match=words):
        stages(stated)
