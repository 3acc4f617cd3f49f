import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.tokenizers import codebook
from models.tokenizers.codebook import EMA, Encoded, StraightThrough, any_rows, far_latents, kmeans, nearest
from models.tokenizers.config import TokenizerConfig


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ema(**changes: object) -> EMA:
    sizes = {"vocab_size": 16, "embed_dim": 4, "quantizer": "ema"}
    return EMA(TokenizerConfig(**(sizes | changes)), rng())  # type: ignore[arg-type]


def latents(seed: int = 0, batch: int = 4) -> Tensor:
    return torch.randn(batch, 4, 6, 6, generator=rng(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 1000))
def test_nearest_is_the_brute_force_answer_in_any_chunks(rows: int, vocab: int, seed: int) -> None:
    z = torch.randn(rows, 3, generator=rng(seed))
    codes = torch.randn(vocab, 3, generator=rng(seed + 1))
    indices, distances = nearest(z, codes)
    brute = (z[:, None] - codes).square().sum(-1)
    torch.testing.assert_close(distances, brute.min(1).values, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(brute.gather(1, indices[:, None])[:, 0], brute.min(1).values, atol=1e-5, rtol=1e-4)


def test_chunks_do_not_change_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codes = torch.randn(50, 4, generator=rng()), torch.randn(7, 4, generator=rng(1))
    whole = nearest(z, codes)[0]
    monkeypatch.setattr(codebook, "DISTANCES_AT_ONCE", 20)
    assert torch.equal(nearest(z, codes)[0], whole)


def test_distances_stay_float32_under_autocast() -> None:
    # 1.000 and 1.001 are the same number in bfloat16.
    codes = torch.tensor([[1.000], [1.001]])
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest(torch.tensor([[1.0009]]), codes)[0].item() == 1


def test_straight_through_sends_gradients_both_ways() -> None:
    book = StraightThrough(TokenizerConfig(vocab_size=16, embed_dim=4), rng())
    assert book.weight.abs().max() <= 1 / 16
    z = latents().requires_grad_()
    encoded = book.quantize(z)
    torch.testing.assert_close(encoded.straight_through, encoded.z_quantized)
    torch.testing.assert_close(encoded.z_quantized, book.look_up(encoded.tokens_BK.view(4, 6, 6)))
    encoded.straight_through.sum().backward(retain_graph=True)
    assert z.grad is not None and torch.equal(z.grad, torch.ones_like(z)) and book.weight.grad is None
    encoded.z_quantized.sum().backward()
    assert book.weight.grad is not None and book.weight.grad.any()


@pytest.mark.parametrize("quantizer", ["straight_through", "ema"])
def test_cosine_codes_and_latents_have_unit_norm(quantizer: str) -> None:
    config = TokenizerConfig(vocab_size=16, embed_dim=4, quantizer=quantizer, cosine=True)  # type: ignore[arg-type]
    book = (EMA if quantizer == "ema" else StraightThrough)(config, rng())
    for seed in range(3):
        encoded = book.quantize(5 * latents(seed))
        for vectors in (encoded.z, encoded.z_quantized):
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4, 6, 6))
    book.eval()
    assert torch.equal(book.quantize(latents()).tokens_BK, book.quantize(9 * latents()).tokens_BK)


def test_ema_step_by_hand() -> None:
    book = ema(vocab_size=2, embed_dim=1, ema_decay=0.5)
    book.weight.copy_(torch.tensor([[0.0], [10.0]]))
    book.code_sum.copy_(book.weight)
    encoded = book.quantize(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    assert encoded.tokens_BK.tolist() == [[0], [0]] and encoded.z_quantized.flatten().tolist() == [0.0, 0.0]
    assert book.cluster_size.tolist() == [1.5, 0.5]  # (1 + 2) / 2, (1 + 0) / 2
    assert book.weight.flatten().tolist() == pytest.approx([2 / 1.5, 10.0])  # sums (0 + 4) / 2, (10 + 0) / 2


def test_only_training_with_gradients_moves_an_ema_codebook() -> None:
    book = ema(kmeans_start=True, revive_below=0.5)
    before = {name: value.clone() for name, value in book.state_dict().items()}
    with torch.no_grad():
        book.quantize(latents())
    book.eval().quantize(latents())
    for name, value in book.state_dict().items():
        assert torch.equal(value, before[name]), name
    book.train().quantize(latents())
    assert not torch.equal(book.weight, before["weight"])


def test_kmeans_start_puts_codes_on_the_batch() -> None:
    centres = torch.tensor([[9.0, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]])
    z = centres[torch.arange(144) % 4].view(4, 6, 6, 4).permute(0, 3, 1, 2)
    cold, warm = ema(vocab_size=8).quantize(z), ema(vocab_size=8, kmeans_start=True).quantize(z)
    assert (cold.z - cold.z_quantized).abs().max() > 8
    torch.testing.assert_close(warm.z_quantized, warm.z)
    assert len(warm.tokens_BK.unique()) == 4


def test_kmeans_finds_a_rare_patch_among_background() -> None:
    background = 0.01 * torch.randn(999, 4, generator=rng())
    z = torch.cat([background, torch.full((1, 4), 5.0)])
    codes = kmeans(z, 8, 10, rng(3))
    assert nearest(z[-1:], codes)[1].item() < 1e-3


def test_more_codes_than_latents_is_fine() -> None:
    z = latents(batch=1)[:, :, :1, :2]  # two latents, sixteen codes
    encoded = ema(kmeans_start=True, revive_below=1.0).quantize(z)
    torch.testing.assert_close(encoded.z_quantized, z, atol=1e-5, rtol=0)


def train(book: EMA, steps: int) -> None:
    for step in range(steps):
        book.quantize(latents(step))


def test_dead_codes_are_revived() -> None:
    stale, revived = ema(ema_decay=0.8), ema(ema_decay=0.8, revive_below=0.5)
    for book in (stale, revived):
        book.weight[1:] += 100  # one code near the data, the others far away
        book.code_sum.copy_(book.weight)
        train(book, 40)
        book.eval()
    assert len(stale.quantize(latents(99)).tokens_BK.unique()) == 1
    assert len(revived.quantize(latents(99)).tokens_BK.unique()) > 12


def test_a_code_that_is_never_used_stays_finite_and_where_it_is() -> None:
    book = ema(ema_decay=0.0)
    book.weight[1:] = 100.0
    book.code_sum.copy_(book.weight)
    train(book, 5)
    assert torch.equal(book.weight[1:], torch.full((15, 4), 100.0))


def test_resuming_from_the_state_repeats_the_run() -> None:
    straight, interrupted, resumed = (ema(ema_decay=0.8, kmeans_start=True, revive_below=2.0) for _ in range(3))
    train(straight, 6)
    for step in range(3):
        interrupted.quantize(latents(step))
    resumed.load_state_dict(interrupted.state_dict())
    for step in range(3, 6):
        resumed.quantize(latents(step))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_far_latents_prefers_distance_and_survives_none() -> None:
    z = torch.arange(100.0).view(100, 1)
    distances = torch.zeros(100)
    distances[42] = 1.0
    assert far_latents(z, distances, 1, rng()).item() == 42
    assert len(far_latents(z, torch.zeros(100), 100, rng()).unique()) == 100


def test_straight_through_has_the_codes_value_and_the_latents_gradient() -> None:
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    codes = torch.tensor([0.0, 4.0], requires_grad=True)
    value = Encoded(z, codes, torch.zeros(1, 2, dtype=torch.int64)).straight_through
    assert value.tolist() == [0.0, 4.0]
    (value * torch.tensor([3.0, 5.0])).sum().backward()
    assert z.grad is not None and z.grad.tolist() == [3.0, 5.0]
    assert codes.grad is None


def test_a_dead_code_becomes_any_latent_and_its_sums_stay_where_that_is_asked_for() -> None:
    book = ema(vocab_size=3, embed_dim=1, ema_decay=0.5, revive_below=0.6, revive="anywhere")
    for buffer in (book.weight, book.code_sum):
        buffer.copy_(torch.tensor([[0.0], [10.0], [20.0]]))
    book.pick = lambda rows, of, _: torch.arange(of)[-rows:]
    book.quantize(torch.tensor([1.0, 3.0, 4.0]).view(3, 1, 1, 1))
    assert book.cluster_size.tolist() == [2.0, 0.5, 0.5] and book.code_sum.flatten().tolist() == [4.0, 5.0, 10.0]
    assert book.weight.flatten().tolist() == [2.0, 3.0, 4.0]


def test_smoothing_lends_every_code_a_count() -> None:
    book = ema(vocab_size=2, embed_dim=1, ema_decay=0.5, ema_smoothing=1.0)
    book.weight.copy_(torch.tensor([[0.0], [10.0]]))
    book.code_sum.copy_(book.weight)
    book.quantize(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))  # counts 1.5 and 0.5, sums 2 and 5
    assert book.weight.flatten().tolist() == pytest.approx([2 / (2.5 / 4 * 2), 5 / (1.5 / 4 * 2)])


def test_any_rows_are_drawn_alike_for_a_seed() -> None:
    assert torch.equal(any_rows(9, 4, rng(3)), any_rows(9, 4, rng(3))) and int(any_rows(99, 4, rng()).max()) == 3
