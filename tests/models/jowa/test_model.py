from dataclasses import replace

import pytest
import torch

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa, parameter_groups


def random_tokens(config: JowaConfig, rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(min(config.vocab_size, config.num_actions), (rows, config.max_tokens), generator=generator)


GAMES = torch.tensor([0, 2, 1])


def test_heads_speak_at_their_positions_only(model: Jowa, config: JowaConfig) -> None:
    outputs = model(random_tokens(config), GAMES)
    shapes = {head: tuple(logits.shape) for head, logits in outputs.logits.items()}
    assert shapes == {
        "observations": (3, 20, 20),
        "rewards": (3, 5, 3),
        "ends": (3, 5, 2),
        "q": (2, 3, 5, 18, 51),
        "q_target": (2, 3, 5, 18, 51),
    }
    action, frame_end = outputs.hidden_BLD[:, 4::5], outputs.hidden_BLD[:, 3::5]
    torch.testing.assert_close(outputs.logits["rewards"], model.head_rewards(action))
    torch.testing.assert_close(outputs.logits["q"].flatten(-2), model.head_q(frame_end))
    before_observation = [i for i in range(25) if i % 5 != 3]
    observations = model.head_observations(outputs.hidden_BLD[:, before_observation])
    torch.testing.assert_close(outputs.logits["observations"], observations)


@pytest.mark.parametrize("pieces", [(25,), (4, 1, 4, 1, 15), (1,) * 25, (9, 16)])
def test_cached_heads_equal_uncached_ones(model: Jowa, config: JowaConfig, pieces: tuple[int, ...]) -> None:
    tokens = random_tokens(config)
    whole, cache = model(tokens, GAMES), model.empty_cache(3)
    parts = [model(piece, GAMES, cache) for piece in tokens.split(pieces, dim=1)]
    for head, axis in {"observations": 1, "rewards": 1, "ends": 1, "q": 2, "q_target": 2}.items():
        joined = torch.cat([part.logits[head] for part in parts], dim=axis)
        torch.testing.assert_close(joined, whole.logits[head], rtol=1e-5, atol=1e-5)


def test_the_future_changes_nothing_earlier(model: Jowa, config: JowaConfig) -> None:
    tokens = random_tokens(config)
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % config.num_actions
    before, after = model(tokens, GAMES), model(changed, GAMES)
    assert torch.equal(before.hidden_BLD[:, :12], after.hidden_BLD[:, :12])
    assert torch.equal(before.logits["q"][:, :, :2], after.logits["q"][:, :, :2])
    assert not torch.allclose(before.logits["q"][:, :, 2], after.logits["q"][:, :, 2])


def test_the_game_matters_unless_task_embedding_is_off(model: Jowa, config: JowaConfig) -> None:
    tokens, other = random_tokens(config), torch.tensor([1, 1, 1])
    assert not torch.allclose(model(tokens, GAMES).hidden_BLD, model(tokens, other).hidden_BLD)
    blind = Jowa(replace(config, task_embedding=False)).eval()
    assert torch.equal(blind(tokens, GAMES).hidden_BLD, blind(tokens, other).hidden_BLD)
    assert not any(name.startswith("task_emb") for name in blind.state_dict())


def test_a_game_may_borrow_anothers_task_embedding(model: Jowa, config: JowaConfig) -> None:
    tokens = random_tokens(config)
    borrowing = Jowa(replace(config, task_ids=((2, 0),))).eval()
    borrowing.load_state_dict(model.state_dict())
    lent, own = model(tokens, torch.tensor([0, 0, 1])), borrowing(tokens, GAMES)  # games 0, 2, 1
    assert torch.equal(own.hidden_BLD, lent.hidden_BLD)
    assert not torch.equal(own.hidden_BLD, model(tokens, GAMES).hidden_BLD)


def test_a_scalar_critic_says_one_number_an_action(config: JowaConfig) -> None:
    model = Jowa(replace(config, critic="mse"))
    assert model(random_tokens(config), GAMES, heads=("q",)).logits["q"].shape == (2, 3, 5, 18, 1)


def test_the_target_head_is_never_trained_and_moves_by_copying_only(model: Jowa, config: JowaConfig) -> None:
    model.train()
    assert not model.head_q_target.training and model.head_q.training
    assert not any(parameter.requires_grad for parameter in model.head_q_target.parameters())
    outputs = model(random_tokens(config), GAMES)
    assert not outputs.logits["q_target"].requires_grad
    outputs.logits["q"].sum().backward()
    before = model.head_q_target.head_module.params[0].clone()
    with torch.no_grad():
        model.head_q.head_module.params[0].add_(1)
    assert torch.equal(before, model.head_q_target.head_module.params[0])
    model.update_target()
    assert torch.equal(before + 1, model.head_q_target.head_module.params[0])


@pytest.mark.parametrize("reaches", [True, False])
def test_the_q_gradient_reaches_the_trunk_only_if_asked(config: JowaConfig, reaches: bool) -> None:
    model = Jowa(replace(config, q_trains_trunk=reaches)).eval()
    model(random_tokens(config), GAMES, heads=("q",)).logits["q"].square().sum().backward()
    assert (model.pos_emb.weight.grad is not None) is reaches
    assert model.head_q.head_module.params[0].grad is not None


def test_only_the_heads_asked_for_are_evaluated(model: Jowa, config: JowaConfig) -> None:
    assert set(model(random_tokens(config), GAMES, heads=("q",)).logits) == {"q"}


def test_a_seed_fixes_the_weights_and_biases_start_at_zero(config: JowaConfig) -> None:
    first, again, other = Jowa(config, seed=4), Jowa(config, seed=4), Jowa(config, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.pos_emb.weight, other.pos_emb.weight)
    assert first.pos_emb.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not any(parameter.any() for name, parameter in first.named_parameters() if name.endswith(".bias"))


def test_factored_positions_start_with_equal_places_in_every_step(config: JowaConfig) -> None:
    factored = Jowa(replace(config, factored_positions=True, embedding_std=0.5))
    places_TKD = factored.pos_emb.weight.unflatten(0, (config.max_steps, config.tokens_per_step))
    from_first_TKD = places_TKD - places_TKD[:, :1]
    assert torch.allclose(from_first_TKD, from_first_TKD[:1].expand_as(from_first_TKD), atol=1e-6)
    # A sum of two parts with deviation 0.5 each.
    assert factored.pos_emb.weight.std().item() == pytest.approx(0.5 * 2**0.5, rel=0.2)
    assert factored.embedder.embedding_tables[1].weight.std().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("layers", "heads", "width", "num_q", "q_hidden", "millions"),
    [(4, 8, 512, 1, 768, 19.11), (6, 12, 768, 1, 1024, 53.35), (12, 12, 768, 3, 1792, 127.78)],
)
def test_sizes_are_those_published(
    layers: int, heads: int, width: int, num_q: int, q_hidden: int, millions: float
) -> None:
    config = JowaConfig(layers=layers, heads=heads, width=width, num_q=num_q, q_hidden=q_hidden)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in _uninitialised(config).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def _uninitialised(config: JowaConfig) -> Jowa:
    class Uninitialised(Jowa):
        def _initialise(self, generator: torch.Generator) -> None:
            pass

    return Uninitialised(config)


@pytest.mark.parametrize(
    ("tokens", "games"),
    [
        (torch.zeros(2, 26, dtype=torch.long), torch.zeros(2, dtype=torch.long)),
        (torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, dtype=torch.long)),
        (torch.zeros(2, 5, dtype=torch.long), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(2, 5, 4, dtype=torch.long), torch.zeros(2, dtype=torch.long)),
        (torch.zeros(2, 5), torch.zeros(2, dtype=torch.long)),
    ],
)
def test_tokens_of_another_shape_or_type_are_refused(model: Jowa, tokens: torch.Tensor, games: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="Tokens"):
        model(tokens, games)


def test_only_linear_weights_and_the_q_head_decay(model: Jowa) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, constant = parameter_groups(model, 0.01)
    assert (decaying["weight_decay"], constant["weight_decay"]) == (0.01, 0.0)
    with_decay = {names[id(parameter)] for parameter in decaying["params"]}
    without = {names[id(parameter)] for parameter in constant["params"]}
    linear = {"attn.key", "attn.query", "attn.value", "attn.proj", "mlp.0", "mlp.2"}
    layers = {f"transformer.blocks.{block}.{layer}.weight" for block in range(2) for layer in linear}
    heads = {
        f"head_{head}.head_module.{layer}.weight" for head in ("observations", "rewards", "ends") for layer in "02"
    }
    assert with_decay == layers | heads | {name for name in names.values() if name.startswith("head_q.")}
    frozen = {name for name in names.values() if name.startswith("head_q_target.")}
    assert without == set(names.values()) - with_decay - frozen
    assert {"transformer.ln_f.weight", "transformer.blocks.0.ln1.weight", "pos_emb.weight"} <= without
