import torch
from torch import nn

from models.blocks.ensemble import EnsembleMLP


def filled(members: int, dropout: float = 0.0) -> EnsembleMLP:
    ensemble = EnsembleMLP(members, (6, 5, 4, 3), dropout)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ensemble.params:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return ensemble


def test_each_member_equals_an_mlp_of_its_own_parameters() -> None:
    ensemble, x = filled(3), torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))
    ours = ensemble(x)
    assert ours.shape == (3, 2, 7, 3)
    for member in range(3):
        alone = nn.Sequential(
            nn.Linear(6, 5), nn.LayerNorm(5), nn.Mish(), nn.Linear(5, 4), nn.LayerNorm(4), nn.Mish(), nn.Linear(4, 3)
        )
        names = [name for name, _ in alone.named_parameters()]  # weight, bias, norm weight, norm bias, ...
        alone.load_state_dict({name: tensor[member] for name, tensor in zip(names, ensemble.params, strict=True)})
        torch.testing.assert_close(ours[member], alone(x))


def test_dropout_is_on_in_training_and_off_in_eval() -> None:
    ensemble, x = filled(2, dropout=0.5), torch.randn(9, 6)
    assert not torch.equal(ensemble.train()(x), ensemble(x))
    assert torch.equal(ensemble.eval()(x), ensemble(x))


def test_parameters_are_stacked_in_the_released_order() -> None:
    shapes = [tuple(parameter.shape) for parameter in filled(2).params]
    hidden = [(2, 5, 6), (2, 5), (2, 5), (2, 5), (2, 4, 5), (2, 4), (2, 4), (2, 4)]
    assert shapes == [*hidden, (2, 3, 4), (2, 3)]
    assert [name for name, _ in filled(2).named_parameters()] == [f"params.{i}" for i in range(10)]
