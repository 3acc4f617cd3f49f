"""What a precision means on the machine that computes, where bf16 is used, and how many threads the work takes."""

import copy
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from models.jowa.config import JowaConfig
from models.jowa.loss import world_action_loss
from models.jowa.model import Jowa
from pipelines.errors import UsageError
from pipelines.recipes.registry import recipe
from pipelines.tools.bench.train import random_batch
from pipelines.training import device
from pipelines.training.device import AGAIN, PIECES, Device, FixedThreads, Threads, choose, compile_for, pick
from tests.models.toy_family.agent import ToyAgent
from tests.models.toy_family.family import ToyConfig

TRIAL = PIECES + 1  # pieces with each number, the first of which warms up
BF16 = Device("cpu", True)


class Machine:
    """A clock, and how long a piece takes by the number of threads."""

    def __init__(self, seconds: Callable[[int], float], most: int = 4) -> None:
        self.now, self.seconds, self.seen = 0.0, seconds, list[int]()
        self.threads = Threads(most, lambda: self.now)

    def work(self, pieces: int, kind: str = "world") -> list[int]:
        """The numbers that the pieces were computed with."""
        self.seen = []
        for _ in range(pieces):
            with self.threads.timed(kind):
                self.seen.append(torch.get_num_threads())
                self.now += self.seconds(torch.get_num_threads())
        return self.seen


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def quiet(count: int) -> float:
    return 0.1 / count + 0.01


def crowded(count: int) -> float:
    return 0.1 if count == 1 else 1.0


def test_more_threads_are_taken_while_they_pay() -> None:
    machine = Machine(quiet)
    assert machine.work(3 * TRIAL + 1) == [1] * TRIAL + [2] * TRIAL + [4] * (TRIAL + 1)
    assert machine.threads.metrics() == {"threads": {"world": [4]}}
    halting = Machine(lambda count: 0.1 / min(count, 2))
    assert halting.work(3 * TRIAL + 2)[-2:] == [2, 2]


def test_on_a_crowded_machine_one_piece_is_lost() -> None:
    machine = Machine(crowded)
    assert machine.work(20) == [1] * TRIAL + [2] + [1] * (19 - TRIAL)


def test_a_number_between_powers_of_two_is_tried() -> None:
    assert Machine(quiet, most=6).work(4 * TRIAL + 1)[-1] == 6
    assert Machine(quiet, most=1).work(9) == [1] * 9


def test_a_collapse_is_noticed_and_told(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(device, "say", told.append)
    machine = Machine(quiet)
    machine.work(30)
    machine.seconds = crowded
    assert machine.work(40)[-20:] == [1] * 20
    assert machine.threads.metrics() == {"threads": {"world": [4, 1]}}
    assert len(told) == 1 and "1 threads in place of 4" in told[0] and "OMP_NUM_THREADS" in told[0]


def test_a_free_machine_is_noticed_after_a_while() -> None:
    machine = Machine(crowded)
    machine.work(20)
    machine.seconds = quiet
    assert set(machine.work(100)) == {1}
    assert machine.work(int(2 * AGAIN / quiet(1)))[-1] == 4


def test_confirmed_choices_are_looked_at_ever_less_often() -> None:
    machine = Machine(crowded)
    slow = [index for index, count in enumerate(machine.work(20_000)) if count == 2]
    gaps = [later - earlier for earlier, later in pairwise(slow)]
    assert len(slow) <= 7 and all(b > 1.5 * a for a, b in pairwise(gaps[:3]))


def test_kinds_are_chosen_apart() -> None:
    machine = Machine(quiet)
    machine.work(30, "tokenizer")
    machine.seconds = crowded
    machine.work(TRIAL + 3, "world")
    assert machine.threads.metrics() == {"threads": {"tokenizer": [4], "world": [1]}}
    assert machine.work(1, "world") == [1]
    assert machine.work(1, "tokenizer") == [4]


def test_a_resumed_run_goes_on_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(device, "say", told.append)
    first = Machine(quiet)
    first.work(30)
    again = Machine(quiet)
    again.threads.resume(first.threads.choices())
    assert again.work(5) == [4] * 5 and not told
    smaller = Machine(quiet, most=2)
    smaller.threads.resume(first.threads.choices())
    assert smaller.work(3 * TRIAL)[-1] == 2 and "4 threads" in told[0]


def test_a_trial_that_is_cut_is_not_carried() -> None:
    machine = Machine(quiet)
    machine.work(TRIAL + 2)
    assert machine.threads.choices() == {}


def test_the_environment_and_a_gpu_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert isinstance(choose("cpu"), FixedThreads)
    assert choose("cpu").metrics() == {"threads": torch.get_num_threads()}
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert isinstance(choose("cuda"), FixedThreads)
    free = choose("cpu")
    assert not isinstance(free, FixedThreads)
    with free.timed("world"):
        assert torch.get_num_threads() == 1


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


@pytest.mark.slow
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


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    device._known.clear()
    yield
    device._known.clear()


class Noisy(ToyAgent):
    """Its world model computes noise in bf16, as some processors do."""

    asked = 0

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        self.asked += 1
        assert not any(network.training for network in self.networks.values())
        found = super().probe()
        if torch.is_autocast_enabled("cpu"):
            found["world"] = (
                torch.randn(found["world"][0].shape, generator=torch.Generator().manual_seed(self.asked)),
            )
        return found


def test_networks_that_agree_run_in_bf16_and_say_how_well() -> None:
    agent = ToyAgent(ToyConfig())
    agent.networks["world"].train()
    settled = device.settle(agent, BF16, "auto")
    assert settled.bf16 and set(settled.errors) == {"world", "actor"} and max(settled.errors.values()) < 0.05
    assert settled.metrics()["device"] == "cpu, bf16" and set(settled.metrics()["bf16_errors"]) == {"world", "actor"}
    assert agent.networks["world"].training, "modes are as they were"


def test_noise_is_told_and_float32_is_used(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(device, "say", said.append)
    agent = Noisy(ToyConfig())
    settled = device.settle(agent, BF16, "auto")
    assert not settled.bf16 and settled.metrics()["device"] == "cpu, float32" and settled.errors["world"] > 0.5
    assert len(said) == 1 and "noise in bf16 for the world (relative error" in said[0] and "float32 is used" in said[0]
    asked = agent.asked
    device.settle(agent, BF16, "auto")
    assert agent.asked == asked, "once a process and config"


def test_noise_is_refused_where_bf16_was_asked_for() -> None:
    with pytest.raises(UsageError, match=r"noise in bf16 for the world .* set precision to float32 or auto"):
        device.settle(Noisy(ToyConfig()), BF16, "bf16")


def test_float32_asks_nothing() -> None:
    agent = Noisy(ToyConfig())
    assert device.settle(agent, Device("cpu", False), "auto") == Device("cpu", False) and not agent.asked


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_wrong(bad: float) -> None:
    def probe() -> Mapping[str, tuple[Tensor, ...]]:
        return {"one": (torch.tensor([bad if torch.is_autocast_enabled("cpu") else 1.0]),)}

    assert not device.compare(probe, BF16)["one"] <= device.BF16_ERROR


def test_jowas_probe_runs_every_network_and_draws_from_no_stream() -> None:
    from models.registry import family_of

    networks = recipe("mini").pretrain.networks
    agent = family_of(networks).build(networks)
    before = torch.random.get_rng_state()
    found = device.errors(agent, BF16)
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(found) == set(agent.networks) and all(error >= 0 for error in found.values())
