"""What a precision means on the machine that trains."""

import pytest
import torch

from pipelines.errors import UsageError
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
