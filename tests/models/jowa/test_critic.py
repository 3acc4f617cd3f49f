"""The objective's variants against a derivation of their own: loops over steps, one equation at a time, in float64."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.critic import expected_values
from models.jowa.loss import sequence, world_action_loss, world_loss
from models.jowa.model import Jowa

VARIANTS = list(product(("c51", "mse"), ("cql", "combo", "none"), (1, 3)))


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


def test_mixture_weights_belong_to_random_mixtures_alone(model: Jowa, batch: Batch) -> None:
    with pytest.raises(ValueError, match="random_mixture is False"):
        world_action_loss(model, batch, legal_actions(), torch.tensor([0.5, 0.5]))
    model.config = replace(model.config, random_mixture=True)
    with pytest.raises(ValueError, match="random_mixture is True"):
        world_action_loss(model, batch, legal_actions())
