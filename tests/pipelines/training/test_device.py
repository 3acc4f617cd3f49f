"""What a precision means on the machine that trains."""

import copy
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from models.jowa.config import JowaConfig
from models.jowa.loss import world_action_loss
from models.jowa.model import Jowa
from pipelines.errors import UsageError
from pipelines.tools.bench.train import random_batch
from pipelines.training.device import Device, compile_for, pick


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(("found", "bf16"), [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({}, False)])
def test_auto_follows_the_processors_instructions(
    cpu: None, monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], bf16: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert pick("auto") == Device("cpu", bf16)


def test_a_named_precision_is_taken_as_it_is(cpu: None) -> None:
    assert (str(pick("bf16")), str(pick("float32"))) == ("cpu, bf16", "cpu, float32")


def test_a_gpu_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert pick("auto") == Device("cuda", True)
    assert pick("float32") == Device("cuda", False)


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_networks_run_in_it_and_weights_do_not_change(bf16: bool, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with Device("cpu", bf16).autocast():
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_a_gpu_that_is_not_there_is_one_line(cpu: None) -> None:
    with pytest.raises(UsageError, match=r"asks for a GPU \(loop.device=cuda\) and PyTorch finds none"):
        pick("auto", "cuda")


def test_compiling_is_for_gpus() -> None:
    module = torch.nn.Linear(2, 2)
    compile_for(Device("cpu", False), module, "auto")
    compile_for(Device("cpu", False), module, "off")
    assert module._compiled_call_impl is None
    with pytest.raises(UsageError, match=r"loop\.compile=on is for GPUs and this run has none"):
        compile_for(Device("cpu", False), module, "on")


TINY = JowaConfig(layers=1, heads=2, width=16, q_hidden=8, vocab_size=32, tokens_per_frame=3, max_steps=3)


@pytest.fixture
def twins() -> tuple[Jowa, Jowa]:
    """A model without dropout and its copy."""
    torch._dynamo.reset()
    model = Jowa(JowaConfig(**{**vars(TINY), "dropout": 0.0, "q_dropout": 0.0}))
    return model, copy.deepcopy(model)


def loss_of(model: Jowa, segments: int) -> torch.Tensor:
    legal_GA = torch.ones(60, 18, dtype=torch.bool)
    return world_action_loss(model, random_batch(model.config, segments), legal_GA).total


def test_the_network_is_one_graph_and_a_second_serves_every_other_size_of_batch(twins: tuple[Jowa, Jowa]) -> None:
    compiled, eager = twins
    counter = CompileCounterWithBackend("eager")
    compiled.compile(backend=counter)
    graphs = []
    for segments in (8, 8, 5, 3, 8, 7, 6, 4, 2):  # accumulated parts are uneven
        torch.testing.assert_close(loss_of(compiled, segments), loss_of(eager, segments))
        graphs.append(counter.frame_count)
    assert graphs == [1, 1, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for a CPU needs g++")
def test_what_is_compiled_has_the_same_losses_and_gradients(twins: tuple[Jowa, Jowa]) -> None:
    compiled, eager = twins
    compile_for(Device("cuda", False), compiled, "auto")  # inductor, here for the CPU
    losses = [loss_of(model, 4) for model in twins]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)
