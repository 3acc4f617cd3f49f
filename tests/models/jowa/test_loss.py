import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.loss import (
    Categorical,
    expected_values,
    pair_mask,
    penalty_weight,
    sequence,
    td_loss,
    world_action_loss,
    world_loss,
)
from models.jowa.model import Jowa

VARIANTS = list(product(("c51", "mse"), ("cql", "combo", "none"), (1, 3)))
LEGAL = torch.ones(3, 18, dtype=torch.bool)


def legal_actions() -> Tensor:
    legal_GA = torch.rand(3, 18, generator=torch.Generator().manual_seed(9)) < 0.4
    legal_GA[:, 5] = True
    return legal_GA


def drastic(config: JowaConfig) -> Jowa:
    """Weights large enough that actions and members differ, and a target head of its own."""
    model = Jowa(config, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


class ByHand:
    """TD error and penalty of recorded head outputs, from the paper's equations."""

    def __init__(self, model: Jowa, batch: Batch, weights: list[float]) -> None:
        self.config, self.batch, self.weights = model.config, batch, weights
        outputs = model(sequence(batch), batch.games_B)
        self.q, self.target = outputs.logits["q"].double(), outputs.logits["q_target"].double()
        low, high, atoms = self.config.value_min, self.config.value_max, self.config.atoms
        self.atoms = [low + (high - low) * atom / (atoms - 1) for atom in range(atoms)]

    def probs(self, logits: Tensor, b: int, t: int, a: int, weights: list[float]) -> Tensor:
        return sum((w * logits[q, b, t, a].softmax(0) for q, w in enumerate(weights)), torch.zeros(()))  # type: ignore

    def value(self, logits: Tensor, b: int, t: int, a: int, weights: list[float]) -> Tensor:
        if self.config.critic == "mse":
            return sum(w * logits[q, b, t, a, 0] for q, w in enumerate(weights))  # type: ignore[return-value]
        return self.probs(logits, b, t, a, weights) @ torch.tensor(self.atoms).double()

    def project(self, probs: list[float], reward: float, discount: float) -> Tensor:
        """Every atom's mass moves to r + discount z and is shared by the two atoms around that place."""
        moved = torch.zeros(len(self.atoms)).double()
        spacing = self.atoms[1] - self.atoms[0]
        for mass, atom in zip(probs, self.atoms, strict=True):
            place = (min(max(reward + discount * atom, self.atoms[0]), self.atoms[-1]) - self.atoms[0]) / spacing
            left = min(int(place), len(self.atoms) - 2)
            moved[left] += mass * (1 - (place - left))
            moved[left + 1] += mass * (place - left)
        return moved

    def td(self) -> Tensor:
        batch, errors = self.batch, []
        legal_GA = legal_actions()
        for b, t in batch.mask_BT.nonzero().tolist():
            last = t + 1 == batch.mask_BT.shape[1] or not batch.mask_BT[b, t + 1]
            ended = bool(batch.ends_BT[b, t])
            if last and not ended:
                continue
            reward, taken = float(batch.rewards_BT[b, t]), int(batch.actions_BT[b, t])
            best = 0
            if not ended:
                legal = legal_GA[batch.games_B[b]].nonzero()[:, 0].tolist()
                best = max(legal, key=lambda a: float(self.value(self.target, b, t + 1, a, self.weights)))
            if self.config.critic == "mse":
                after = 0.0 if ended else float(self.value(self.target, b, t + 1, best, self.weights))
                wanted = reward + self.config.gamma * after
                errors.append((wanted - self.value(self.q, b, t, taken, self.weights)) ** 2 / 2)
            else:
                uniform = [1 / len(self.atoms)] * len(self.atoms)
                next_probs = uniform if ended else self.probs(self.target, b, t + 1, best, self.weights).tolist()
                wanted_probs = self.project(next_probs, reward, 0.0 if ended else self.config.gamma)
                predicted = self.probs(self.q, b, t, taken, self.weights)
                errors.append(-(wanted_probs * (predicted + 1e-8).log()).sum())
        return torch.stack(errors).mean()

    def penalty(self) -> Tensor:
        batch, equal = self.batch, [1 / len(self.q)] * len(self.q)
        pushed, lifted = [], []
        for b, t in batch.mask_BT.nonzero().tolist():
            values = torch.stack([self.value(self.q, b, t, a, equal) for a in range(18)])
            pushed.append(values.exp().sum().log())
            dreamt = batch.imagined_B is not None and bool(batch.imagined_B[b])
            if self.config.penalty == "cql" or not dreamt:
                lifted.append(self.value(self.q, b, t, int(batch.actions_BT[b, t]), self.weights))
        return torch.stack(pushed).mean() - torch.stack(lifted).mean()


def gradients(total: Tensor, model: Jowa) -> Tensor:
    model.zero_grad(set_to_none=True)
    total.backward()
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("critic", "penalty", "members"), VARIANTS)
@pytest.mark.parametrize("extra", ["plain", "imagined", "mixture", "detached", "no task"])
def test_stage_two_and_its_gradient_follow_the_equations(
    config: JowaConfig, batch: Batch, critic: str, penalty: str, members: int, extra: str
) -> None:
    weights_Q = torch.tensor([0.2, 0.5, 0.3][:members]) / sum([0.2, 0.5, 0.3][:members])
    config = replace(
        config,
        critic=critic,  # type: ignore[arg-type]
        penalty=penalty,  # type: ignore[arg-type]
        num_q=members,
        atoms=7,
        random_mixture=extra == "mixture",
        q_trains_trunk=extra != "detached",
        task_embedding=extra != "no task",
    )
    if extra == "imagined":
        batch = replace(batch, imagined_B=torch.tensor([True, False, False]))
    model = drastic(config)
    losses = world_action_loss(model, batch, legal_actions(), weights_Q if extra == "mixture" else None)
    by_hand = ByHand(model, batch, weights_Q.tolist() if extra == "mixture" else [1 / members] * members)
    td = by_hand.td()
    total = config.world_weight * world_loss(model, batch).total + td
    assert losses.terms["td"].item() == pytest.approx(td.item(), rel=1e-4)
    if penalty == "none":
        assert "cql" not in losses.terms
    else:
        total = total + config.cql_weight * by_hand.penalty()
        assert losses.terms["cql"].item() == pytest.approx(by_hand.penalty().item(), rel=1e-4)
    assert losses.total.item() == pytest.approx(total.item(), rel=1e-4)
    ours, theirs = gradients(losses.total, model), gradients(total, model)
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()


def test_the_world_is_not_learned_from_dreams(model: Jowa, batch: Batch) -> None:
    dreamt = replace(batch, imagined_B=torch.tensor([False, True, True]))
    alone = replace(
        batch,
        **{
            name: getattr(batch, name)[:1]
            for name in ("tokens_BTK", "actions_BT", "rewards_BT", "ends_BT", "mask_BT", "games_B")
        },
    )
    for name, term in world_loss(model, dreamt).terms.items():
        assert term.item() == pytest.approx(world_loss(model, alone).terms[name].item(), rel=1e-5), name


def test_a_scalar_critics_values_are_its_outputs_mean(config: JowaConfig) -> None:
    config = replace(config, critic="mse")
    logits = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1).expand(2, 1, 1, 18, 1)
    assert torch.equal(expected_values(logits, config), torch.full((1, 1, 18), 2.0))


def test_a_pessimist_values_less_what_the_heads_do_not_agree_on(config: JowaConfig) -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 2.0]]).view(2, 1, 1, 2, 1)
    values = expected_values(logits, replace(config, critic="mse", num_q=2, pessimism=0.5))
    assert values.flatten().tolist() == [1.5, 2.0]
    with pytest.raises(ValueError, match="num_q is 1: raise it"):
        replace(config, num_q=1, pessimism=0.5)


def test_mixture_weights_belong_to_random_mixtures_alone(model: Jowa, batch: Batch) -> None:
    with pytest.raises(ValueError, match="random_mixture is False"):
        world_action_loss(model, batch, legal_actions(), torch.tensor([0.5, 0.5]))
    model.config = replace(model.config, random_mixture=True)
    with pytest.raises(ValueError, match="random_mixture is True"):
        world_action_loss(model, batch, legal_actions())


def test_the_world_loss_is_the_sum_of_its_terms(model: Jowa, batch: Batch) -> None:
    losses = world_loss(model, batch)
    assert set(losses.terms) == {"observations", "rewards", "ends"}
    assert losses.total.item() == pytest.approx(sum(term.item() for term in losses.terms.values()))
    losses.total.backward()
    assert model.pos_emb.weight.grad is not None and model.head_q.head_module.params[0].grad is None


def test_the_penalty_weighs_less_from_step_to_step_where_it_is_to(batch: Batch, config: JowaConfig) -> None:
    falling = Jowa(replace(config, penalty="cql", cql_weight=0.5, cql_steps=10, cql_last=0.1), seed=1)
    weights = {0: 0.5, 5: 0.3, 10: 0.1, 99: 0.1}
    for step, weight in weights.items():
        losses = world_action_loss(falling, batch, LEGAL, step=step)
        rest = config.world_weight * sum(losses.terms[name] for name in ("observations", "rewards", "ends"))
        assert float(losses.total - rest - losses.terms["td"]) == pytest.approx(
            weight * float(losses.terms["cql"]), rel=1e-4
        )
    assert penalty_weight(replace(config, cql_weight=0.5), 99) == 0.5, "it stays unless a schedule is asked for"


def test_the_second_stage_weighs_its_terms(model: Jowa, batch: Batch, config: JowaConfig) -> None:
    world, losses = world_loss(model, batch), world_action_loss(model, batch, LEGAL)
    terms = {name: term.item() for name, term in losses.terms.items()}
    assert terms["cql"] == pytest.approx(terms["q_logsumexp"] - terms["q_taken"])
    expected = config.world_weight * world.total.item() + terms["td"] + config.cql_weight * terms["cql"]
    assert losses.total.item() == pytest.approx(expected)
    losses.total.backward()
    assert model.head_q.head_module.params[0].grad is not None
    assert all(parameter.grad is None for parameter in model.head_q_target.parameters())


def test_padding_changes_nothing(model: Jowa, batch: Batch) -> None:
    """Tokens, actions, rewards and ends of right-padded steps reach no term."""
    padded = replace(batch, mask_BT=torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]).bool())
    hidden_BT = ~padded.mask_BT
    assert padded.tokens_BTK is not None
    other = replace(
        padded,
        tokens_BTK=padded.tokens_BTK.masked_fill(hidden_BT[..., None], 7),
        actions_BT=padded.actions_BT.masked_fill(hidden_BT, 3),
        rewards_BT=padded.rewards_BT.masked_fill(hidden_BT, 1.0),
        ends_BT=padded.ends_BT.masked_fill(hidden_BT, 1),
    )
    first, second = (world_action_loss(model, one, LEGAL) for one in (padded, other))
    for name, term in first.terms.items():
        assert term.item() == pytest.approx(second.terms[name].item(), rel=1e-6), name


def hand_made(ends: list[int], mask: list[int]) -> Batch:
    return Batch(
        tokens_BTK=None,
        actions_BT=torch.tensor([[0, 1, 0]]),
        rewards_BT=torch.tensor([[1.0, 0.0, -1.0]]),
        ends_BT=torch.tensor([ends]),
        mask_BT=torch.tensor([mask]).bool(),
        games_B=torch.tensor([0]),
    )


ATOMS = torch.tensor([-1.0, 0.0, 1.0])

CRITIC = Categorical(ATOMS)

PREDICTED = torch.tensor([[[[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]] * 3]).reshape(1, 3, 2, 3)

# Action 1 is the better one everywhere; action 0 is certain of -1.
TARGET = torch.tensor([[[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]] * 3]).reshape(1, 3, 2, 3)

BOTH = torch.ones(1, 2, dtype=torch.bool)


def td(batch: Batch, legal: torch.Tensor = BOTH, n_step: int = 1) -> float:
    return td_loss(PREDICTED, TARGET, batch, legal, CRITIC, JowaConfig(gamma=0.5, n_step=n_step)).item()


def test_pairs_are_real_steps_with_a_successor_and_ends() -> None:
    # Step 0: action 0, r + gamma 1 = 1.5, clipped to the last atom. Step 1: action 1, 0.5: half and half.
    first, second = -math.log(0.5), -0.5 * math.log(0.1) - 0.5 * math.log(0.8)
    assert td(hand_made([0, 0, 0], [1, 1, 1])) == pytest.approx((first + second) / 2, rel=1e-5)
    # An end adds a pair whose target is r = -1 alone; taken action 0 gives that atom 0.2.
    assert td(hand_made([0, 0, 1], [1, 1, 1])) == pytest.approx((first + second - math.log(0.2)) / 3, rel=1e-5)
    # Without its successor a step is no pair; nor is padding that claims an end.
    assert td(hand_made([0, 0, 1], [1, 1, 0])) == pytest.approx(first, rel=1e-5)
    assert td(hand_made([0, 0, 0], [0, 0, 1])) == 0.0


def test_an_end_in_the_middle_takes_the_reward_alone() -> None:
    # Step 1 ends with r = 0: all mass on the middle atom, of which action 1 gives 0.1.
    expected = (-math.log(0.5) - math.log(0.1)) / 2
    assert td(hand_made([0, 1, 0], [1, 1, 1])) == pytest.approx(expected, rel=1e-5)


def test_two_steps_ahead_go_on_where_the_segment_does() -> None:
    # Step 0: 1 + 0.5 * 0 + 0.25 * 1 = 1.25, clipped to the last atom. Step 1 has one step left, as before.
    first, second = -math.log(0.5), -0.5 * math.log(0.1) - 0.5 * math.log(0.8)
    assert td(hand_made([0, 0, 0], [1, 1, 1]), n_step=2) == pytest.approx((first + second) / 2, rel=1e-5)
    # Step 1 ends the game: step 0 is worth 1 + 0.5 * 0, the last atom; step 1 is worth 0, the middle one.
    assert td(hand_made([0, 1, 0], [1, 1, 1]), n_step=2) == pytest.approx(
        (-math.log(0.5) - math.log(0.1)) / 2, rel=1e-5
    )


def test_illegal_actions_are_no_greedy_choice() -> None:
    # Only action 0 (value -1) is legal: targets 1 - 0.5 = 0.5 and 0 - 0.5 = -0.5.
    first = -0.5 * math.log(0.3) - 0.5 * math.log(0.5)
    second = -0.5 * math.log(0.1) - 0.5 * math.log(0.1)
    only_first = torch.tensor([[True, False]])
    assert td(hand_made([0, 0, 0], [1, 1, 1]), only_first) == pytest.approx((first + second) / 2, rel=1e-5)


def test_bf16_autocast_stays_close_and_finite(model: Jowa, batch: Batch) -> None:
    exact = world_action_loss(model, batch, LEGAL)
    with torch.autocast("cpu", torch.bfloat16):
        rough = world_action_loss(model, batch, LEGAL)
    assert rough.total.dtype == torch.float32
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.05)
    rough.total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_some_steps_of_training_lower_the_loss(model: Jowa, batch: Batch) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        losses = world_action_loss(model, batch, LEGAL)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(losses.total.item())
    assert history[-1] < 0.8 * history[0]


def test_a_batch_without_tokens_and_a_mask_of_another_shape_are_refused(model: Jowa, batch: Batch) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        world_loss(model, replace(batch, tokens_BTK=None))
    with pytest.raises(ValueError, match="Legal mask"):
        world_action_loss(model, batch, LEGAL[:2])
    with pytest.raises(ValueError, match="Legal mask"):
        world_action_loss(model, batch, LEGAL.float())


@pytest.mark.parametrize("critic", ["c51", "mse"])
def test_a_value_of_states_is_of_the_datas_own_returns(config: JowaConfig, batch: Batch, critic: str) -> None:
    config = replace(config, state_value=2.0, expectile=0.8, trace=0.5, critic=critic)  # type: ignore[arg-type]
    model = drastic(config)
    outputs = model(sequence(batch), batch.games_B, heads=("v", "v_target"))
    v, target = (expected_values(outputs.logits[name], config) for name in ("v", "v_target"))  # type: ignore[index]
    ends, pairs = batch.ends_BT.bool() & batch.mask_BT, pair_mask(batch)
    atoms, errors = torch.linspace(config.value_min, config.value_max, config.atoms), []
    for b, t in pairs.nonzero().tolist():
        wanted, trace, discount = 0.0, 1.0, 1.0
        for later in range(t, pairs.shape[1]):  # r_t + gamma ((1 - lambda) V + lambda (r + ...)), written out
            wanted += trace * discount * float(batch.rewards_BT[b, later])
            if ends[b, later]:
                break
            discount *= config.gamma
            if not pairs[b, later + 1]:
                wanted += trace * discount * float(target[b, later + 1])
                break
            wanted += trace * (1 - config.trace) * discount * float(target[b, later + 1])
            trace *= config.trace
        weight = 2 * (0.2 if wanted < float(v[b, t]) else 0.8)
        if critic == "mse":
            errors.append(weight * (wanted - float(v[b, t])) ** 2 / 2)
            continue
        probs = outputs.logits["v"][:, b, t].softmax(-1).mean(0)
        shares = (
            1 - (atoms - min(max(wanted, float(atoms[0])), float(atoms[-1]))).abs() / (atoms[1] - atoms[0])
        ).clamp(0)
        errors.append(weight * float(-(shares * (probs + 1e-8).log()).sum()))
    found = world_action_loss(model, batch, LEGAL)
    assert float(found.terms["v"]) == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    without = world_action_loss(model, batch, LEGAL).terms
    rest = config.world_weight * (without["observations"] + without["rewards"] + without["ends"])
    rest = rest + without["td"] + config.cql_weight * without["cql"]
    assert float(found.total - rest) == pytest.approx(2 * float(found.terms["v"]), rel=1e-3)
