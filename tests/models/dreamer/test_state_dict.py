import pytest
import torch
from torch import Tensor

from models.dreamer.actor_critic import ActorCritic
from models.dreamer.state_dict import (
    Names,
    described,
    load_network,
    load_original,
    original_network,
    original_state_dict,
)
from models.dreamer.systems import SYSTEMS
from models.dreamer.world_model import WorldModel
from tests.models.dreamer.small_dreamer import CONFIGS, draws, segments

ENTRIES = {"prelar_pretrain": 284, "prelar": 301}  # of whole files of the originals


def agent(name: str, seed: int = 0) -> tuple[WorldModel, ActorCritic | None]:
    config = CONFIGS[name]
    return WorldModel(config, seed).eval(), ActorCritic(config, seed) if config.practises else None


def plain(name: str) -> list[Names]:
    return ["prelar"] if name.startswith("prelar") else ["prelar", "contextwm"]


@pytest.mark.parametrize(("name", "names"), [(name, names) for name in CONFIGS for names in plain(name)])
def test_weights_go_out_and_come_in_bit_for_bit(name: str, names: Names) -> None:
    (world, behaviour), (other, others) = agent(name, 1), agent(name, 2)
    written = original_state_dict(world, behaviour, names)
    load_original(other, others, written)
    for first, second in ((world, other), (behaviour, others)):
        if first is not None and second is not None:
            assert all(torch.equal(each, second.state_dict()[key]) for key, each in first.state_dict().items())
    observed = [each.observe(segments(), draws()).posterior.feature for each in (world, other)]
    assert torch.equal(*observed)


@pytest.mark.parametrize("name", ENTRIES)
def test_published_sizes_have_the_originals_entries(name: str) -> None:
    config = SYSTEMS[name]()
    with torch.device("meta"):
        world = WorldModel(config)
        behaviour = ActorCritic(config) if config.practises else None
    for module in (world, behaviour):
        if module is not None:
            module.to_empty(device="cpu")
    written = original_state_dict(world, behaviour)
    assert len(written) == ENTRIES[name]
    shapes = {key: tuple(each.shape) for key, each in written.items()}
    expected = {
        "wm.rssm._img_in.0.weight": (1024, 1088),
        "wm.rssm._cell._layer.weight": (3072, 2048),
        "wm.rssm._obs_out.0.weight": (1024, 4096),
        "wm.encoder._cnn_net.res1.stack.0.identity.0.weight": (96, 48, 1, 1),
        "wm.heads.decoder._cnn_nn.res0.stack.1.identity.0.weight": (96, 192, 1, 1),
        "wm.heads.decoder.convout.weight": (24, 3, 3, 3),
    }
    if config.practises:
        expected |= {
            "wm.action_encoder._encoder.2.weight": (64, 1024),
            "wm.af_rssm._img_in.0.weight": (1024, 1088),
            "wm.intr_bonus.random_projection_matrix": (3072, 128),
            "_expl_behavior.actor._out_dist._std_nn.weight": (4, 400),
            "_task_behavior._target_critic._mlp_nn.dense_0.weight": (400, 2048),
        }
    else:
        expected |= {
            "wm.va_encoder.va_encoder._cnn_net.convin.weight": (48, 6, 3, 3),
            "wm.va_encoder.action_in.2.weight": (128, 1024),
        }
    assert {key: shapes[key] for key in expected} == expected


def test_what_is_stored_twice_must_agree_and_may_be_left_out() -> None:
    world, behaviour = agent("prelar", 1)
    written = original_state_dict(world, behaviour)
    once = {key: each for key, each in written.items() if not key.startswith(("wm.af_rssm.", "_expl_behavior."))}
    load_original(*agent("prelar", 2), once)
    load_original(*agent("prelar", 2), {key.replace("wm.rssm", "wm.af_rssm"): each for key, each in once.items()})
    written["wm.af_rssm._cell._layer.bias"] = written["wm.af_rssm._cell._layer.bias"] + 1
    with pytest.raises(ValueError, match=r"'wm\.rssm\._cell\._layer\.bias' and its copy .* differ"):
        load_original(*agent("prelar", 2), written)


@pytest.mark.parametrize(
    ("given", "wanted", "words"),
    [
        (
            "apv_pretrain",
            "prelar_pretrain",
            "holds weights of APV's pre-training, not what the recipe says: it lacks",
        ),
        ("prelar", "dreamerv2", "of PreLAR's fine-tuning"),
        ("contextwm", "apv", "of ContextWM's fine-tuning"),
        ("naive", "dreamerv2", "of the naive fine-tuning"),
    ],
)
def test_weights_of_another_system_are_named_and_change_nothing(given: str, wanted: str, words: str) -> None:
    written, (world, behaviour) = original_state_dict(*agent(given)), agent(wanted, 1)
    before = {key: each.clone() for key, each in world.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        load_original(world, behaviour, written)
    assert all(torch.equal(each, before[key]) for key, each in world.state_dict().items())


def test_a_weight_of_another_shape_changes_nothing() -> None:
    written = original_state_dict(*agent("prelar", 1))
    written["_task_behavior.actor._out_dist._out_nn.bias"] = torch.zeros(9)
    written["_expl_behavior.actor._out_dist._out_nn.bias"] = torch.zeros(9)
    world, behaviour = agent("prelar", 2)
    before = {key: each.clone() for key, each in world.state_dict().items()}
    with pytest.raises(ValueError, match=r"actor\.out\.bias \(9,\) for \(2,\)"):
        load_original(world, behaviour, written)
    assert all(torch.equal(each, before[key]) for key, each in world.state_dict().items())


@pytest.mark.parametrize("part", ["rssm", "encoder", "decoder", "latent_action"])
def test_a_network_has_a_file_of_its_own(part: str) -> None:
    (world, _), (other, _) = agent("prelar_pretrain", 1), agent("prelar_pretrain", 2)
    written = original_network(world, part)
    load_network(other, part, written)
    ours: dict[str, Tensor] = getattr(other, part).state_dict()
    assert all(torch.equal(each, ours[key]) for key, each in getattr(world, part).state_dict().items())
    written.popitem()
    with pytest.raises(ValueError, match="of a single network"):
        load_network(other, part, written)


def test_names_that_a_repository_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="has no latent_action: take"):
        original_state_dict(*agent("prelar_pretrain"), "contextwm")
    with pytest.raises(ValueError, match="This world has no first"):
        load_network(agent("prelar")[0], "first", {})
    assert described({"x": torch.zeros(1)}) == "of a single network, or of none that is known here"
