"""JOWA's golden files: what is wrong, on either side, is noticed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.jowa.model import Jowa
from models.jowa.model import parameter_groups as groups_of
from models.parity.check import MISSING, UNKNOWN, check
from models.parity.jowa import planning, training
from models.planning.beam import search
from tests.models.parity.golden_files import JOWA, Arrays, failed, load, reduced, restated


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return reduced(load(JOWA))


def test_a_reduced_file_passes(arrays: Arrays) -> None:
    assert failed(arrays) == set()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tokenizer/z", marks=pytest.mark.slow),
        pytest.param("forward/values_q_target", marks=pytest.mark.slow),
        "loss/stage1/total",
        pytest.param("grad/stage2/pos_emb.weight", marks=pytest.mark.slow),
        "env/cache_values",
    ],
)
def test_one_wrong_number_fails_its_entry_alone(arrays: Arrays, name: str) -> None:
    wrong = np.array(arrays[name])
    wrong.reshape(-1)[0] += 2e-4 * np.abs(wrong).max()
    assert failed(arrays | {name: wrong}) == {name}


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/tokens",
        "env/rewards",
        pytest.param("imagine/path_actions", marks=pytest.mark.slow),
        pytest.param("env/ends", marks=pytest.mark.slow),
    ],
)
def test_one_flipped_bit_fails_its_entry_alone(arrays: Arrays, name: str) -> None:
    wrong = np.array(arrays[name])
    wrong.reshape(-1).view(np.uint8)[-1] ^= 1
    assert failed(arrays | {name: wrong}) == {name}


@pytest.mark.slow
def test_one_flipped_bit_of_an_input_is_noticed(arrays: Arrays) -> None:
    frames = np.array(arrays["batch/tokenizer/observations"])
    frames[2, 0, 40, 40] ^= 64
    assert failed(arrays | {"batch/tokenizer/observations": frames}) == {"tokenizer/z"}
    tokens = np.array(arrays["batch/tokens"])
    tokens[1, 2, 3] ^= 1
    assert failed(arrays | {"batch/tokens": tokens}) >= {"forward/hidden", "loss/stage1/loss_obs", "loss/stage2/total"}


@pytest.mark.parametrize(
    ("name", "noticed"),
    [
        pytest.param(
            "weights/tokenizer/decoder.conv_out.bias",
            {"tokenizer/reconstruction", "tokenizer/decoded"},
            marks=pytest.mark.slow,
        ),
        ("weights/jowa/transformer.blocks.1.ln2.bias", {"forward/hidden", "env/values", "imagine/path_scores"}),
        pytest.param(
            "weights/jowa/head_q_target.head_module.params.9",
            {"forward/values_q_target", "forward/logits_q_target"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_altered_weight_is_noticed(arrays: Arrays, name: str, noticed: set[str]) -> None:
    wrong = np.array(arrays[name])
    wrong.reshape(-1)[0] += 0.05
    assert failed(arrays | {name: wrong}) >= noticed


@pytest.mark.parametrize(
    ("option", "value", "noticed"),
    [
        ("action.gamma", 0.95, {"loss/stage2/loss_td_error", "imagine/path_scores"}),
        pytest.param("action.cql_weight", 0.2, {"loss/stage2/loss_cql_penalty"}, marks=pytest.mark.slow),
        pytest.param("action.supervised_weight", 0.5, {"loss/stage2/loss_obs"}, marks=pytest.mark.slow),
        ("stages.stage1.clip", 500.0, {"after_step2/stage1/head_ends.head_module.2.bias"}),
        pytest.param("stages.stage2.eps", 1e-4, {"after_step/stage2/pos_emb.weight"}, marks=pytest.mark.slow),
        pytest.param(
            "stages.stage2.weight_decay", 0.0, {"after_step/stage2/head_q.head_module.params.0"}, marks=pytest.mark.slow
        ),
        ("transformer.num_heads", 4, {"forward/hidden", "env/cache_keys"}),
        pytest.param("games.Assault.legal", [0, 17], {"loss/stage2/loss_td_error"}, marks=pytest.mark.slow),
    ],
)
def test_another_option_is_noticed(arrays: Arrays, option: str, value: object, noticed: set[str]) -> None:
    def change(config: dict[str, Any]) -> None:
        *sections, name = option.split(".")
        for section in sections:
            config = config[section]
        config[name] = value

    assert failed(restated(arrays, change)) >= noticed


@pytest.mark.parametrize(
    "name",
    [
        "forward/hidden",
        pytest.param("grad/stage1/pos_emb.weight", marks=pytest.mark.slow),
        pytest.param("after_step2/stage2/pos_emb.weight", marks=pytest.mark.slow),
    ],
)
def test_an_output_that_the_file_lacks_is_a_failed_check(arrays: Arrays, name: str) -> None:
    checks = check({entry: array for entry, array in arrays.items() if entry != name})
    assert [(one.name, one.note) for one in checks if not one.ok] == [(name, MISSING)]


def test_an_entry_that_nothing_knows_is_a_failed_check(arrays: Arrays) -> None:
    names = ["seed", "batch/weather", "forward/novel", "weights/gpt/a", "draws/stage2/rand", "plan/Pong/greedy/action"]
    names += ["after_step/stage1/transformer.ln_f.bias", "grad/stage1/transformer.blocks.0.attn.key.bias"]
    checks = check(arrays | {name: np.zeros(1) for name in names})
    assert [(one.name, one.note) for one in checks if not one.ok] == [(name, UNKNOWN) for name in names]


def test_what_a_file_leaves_out_must_be_an_output(arrays: Arrays) -> None:
    with pytest.raises(ValueError, match="leaves out forward/novel, which is no output"):
        check(restated(arrays, lambda config: config["left_out_entries"].append("forward/novel")))


def test_missing_and_foreign_weights_are_named(arrays: Arrays) -> None:
    name = "weights/jowa/transformer.ln_f.bias"
    with pytest.raises(ValueError, match=r"missing: transformer\.ln_f\.bias"):
        check({entry: array for entry, array in arrays.items() if entry != name})
    with pytest.raises(ValueError, match="unexpected: novel"):
        check(arrays | {"weights/tokenizer/novel": np.zeros(1)})


@pytest.mark.slow
def test_a_beam_whose_discount_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No best path changes for it: the score of the kept node tells."""

    def slack(world: Any, context: Any, legal_NA: Any, beam: Any, gamma: float) -> Any:
        return search(world, context, legal_NA, beam, 0.9 * gamma)

    monkeypatch.setattr(planning, "search", slack)
    found = failed(load(JOWA))
    assert len([name for name in found if name.endswith("/path_score")]) == 21 and "imagine/path_scores" in found


def unclipped(parameters: Any, max_norm: float) -> torch.Tensor:
    return nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])


def all_decaying(model: nn.Module, weight_decay: float) -> list[dict]:
    return [{"params": group["params"], "weight_decay": weight_decay} for group in groups_of(model, weight_decay)]


@pytest.mark.parametrize(
    ("place", "name", "fault", "noticed"),
    [
        (nn.utils, "clip_grad_norm_", unclipped, {"after_step2/stage1/", "after_step2/stage2/"}),
        pytest.param(
            training,
            "parameter_groups",
            all_decaying,
            {"after_step/stage1/", "after_step/stage2/"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Jowa,
            "update_target",
            lambda model: None,
            {"after_step2/stage1/head_q_target", "after_step2/stage2/"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_fault_of_ours_is_noticed(
    arrays: Arrays, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, fault: Callable, noticed: set[str]
) -> None:
    monkeypatch.setattr(place, name, fault)
    found = failed(arrays)
    assert all(any(entry.startswith(prefix) for entry in found) for prefix in noticed)
