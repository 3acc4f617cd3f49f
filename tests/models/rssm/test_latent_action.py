import pytest
import torch

from models.api import Moment
from models.rssm.chance import Gaussian, Seeded
from models.rssm.config import ActionEncoderConfig, FramesConfig, LatentActionConfig
from models.rssm.consistency import LEAST, relative_consistency, sign_consistency, soft_consistency
from models.rssm.latent_action import ORIGINAL_PRIOR_STD, ActionEncoder, LatentAction, latent_kl

FRAMES = FramesConfig("resnet", 16, 4, stages=1)


def draws() -> Seeded:
    return Seeded(0, "test", Moment(0))


@pytest.mark.parametrize("sees", ["concat", "diff", "catdiff"])
@pytest.mark.parametrize("kind", ["stochastic", "discrete", "deterministic"])
def test_a_latent_action_is_of_two_frames_alone(sees: str, kind: str) -> None:
    config = LatentActionConfig(sees, kind, width=3, discrete=4, hidden=5, channels=4)
    net, frames = LatentAction(config, FRAMES).eval(), torch.rand(2, 4, 3, 16, 16)
    actions, stats = net(frames, draws())
    assert actions.shape == (2, 4, config.numbers) and actions.dtype == torch.float32
    assert (actions[:, 0] == 0).all() and (stats is None) == (kind == "deterministic")
    changed = frames.clone()
    changed[:, 3] += 1
    other, _ = net(changed, draws())
    torch.testing.assert_close(actions[:, :3], other[:, :3])
    before, after = net.numbers(frames), net.numbers(changed)
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.equal(before[:, 2], after[:, 2])
    if sees == "diff":  # both frames alike brighter
        torch.testing.assert_close(net.numbers(frames + 0.25), before, atol=1e-5, rtol=1e-4)


def test_a_single_frame_tells_no_action() -> None:
    with pytest.raises(ValueError, match="segments of two steps or more"):
        LatentAction(LatentActionConfig(), FRAMES)(torch.rand(2, 1, 3, 16, 16), draws())


def test_divergence_from_the_originals_prior_and_from_a_standard_one() -> None:
    """The first is a number of the specification: the original's prior has a std of 1.245."""
    kind = Gaussian(64)
    zeros = kind.read(torch.zeros(1, 128))
    assert pytest.approx(1.2449187, abs=1e-6) == ORIGINAL_PRIOR_STD
    assert float(latent_kl(kind, zeros, ORIGINAL_PRIOR_STD)) == pytest.approx(2.66802, abs=1e-4)
    assert float(latent_kl(kind, zeros)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["stochastic", "discrete", "deterministic"])
def test_encoded_actions(kind: str) -> None:
    config = ActionEncoderConfig(kind, width=3, discrete=4, hidden=5)
    encoder, actions = ActionEncoder(config, 2), torch.rand(2, 3, 2)
    found = encoder(actions, draws())
    assert found.shape == (2, 3, config.numbers) and torch.equal(found, encoder(actions, draws()))
    assert torch.equal(encoder(actions, None), encoder(actions, None))
    assert torch.equal(found, encoder(actions, None)) == (kind == "deterministic")


def test_the_published_consistency_compares_signs_and_moves_nothing() -> None:
    actions = torch.tensor([0.1, 3.0, 2.0], requires_grad=True)
    same, other = torch.tensor([1.0, 9.0, 4.0]), torch.tensor([9.0, 1.0, 4.0])
    assert float(sign_consistency(actions, same)) == 0
    loss = sign_consistency(actions, other)
    assert float(loss) == pytest.approx(6 * 4 / 9)  # all pairs the wrong way round
    loss.backward()
    assert actions.grad is not None and (actions.grad == 0).all()


def test_the_soft_one_moves_actions_into_the_worlds_order() -> None:
    actions, worlds = torch.tensor([0.1, 3.0, 2.0], requires_grad=True), torch.tensor([9.0, 1.0, 4.0])
    soft_consistency(actions, worlds).backward()
    assert actions.grad is not None and actions.grad[0] < 0 < actions.grad[1]  # the first should differ more
    ours = soft_consistency(actions.detach(), worlds, sharpness=1e4)
    torch.testing.assert_close(ours, sign_consistency(actions.detach(), worlds))
    assert float(soft_consistency(worlds, worlds)) == 0
    assert bool(soft_consistency(torch.zeros(3), torch.zeros(3)).isfinite())


def test_the_soft_one_shrinks_actions_that_tell_nothing_of_the_world_and_the_relative_one_does_not() -> None:
    numbers = torch.Generator().manual_seed(0)
    values, worlds = (torch.rand(90, generator=numbers, dtype=torch.float64) for _ in range(2))
    slopes = {}
    for loss in (soft_consistency, relative_consistency):
        actions = values.clone().requires_grad_()
        loss(actions, worlds).backward()
        assert actions.grad is not None and float(actions.grad.abs().sum()) > 0.1
        slopes[loss] = float(actions.grad @ values / values.std())
    assert slopes[soft_consistency] > 0.1 and abs(slopes[relative_consistency]) < 1e-12
    assert relative_consistency(9 * values, worlds).item() == pytest.approx(relative_consistency(values, worlds).item())
    assert relative_consistency(values, worlds).item() == soft_consistency(values, worlds).item()
    for same in (torch.zeros(3), 1e-30 * torch.rand(3)):
        relative_consistency(same.requires_grad_(), torch.rand(3)).backward()
        assert same.grad is not None and same.grad.isfinite().all()


def test_actions_that_hardly_differ_are_not_driven_apart_without_bound() -> None:
    actions = (1e-30 * torch.rand(6)).requires_grad_()
    soft_consistency(actions, torch.rand(6)).backward()
    assert actions.grad is not None and 0 < actions.grad.abs().max() < 4 / LEAST
