"""A config of the originals as a golden file states it: entries by dotted name, all of which must be accounted for.

The file holds everything that a run is configured by. What belongs to the model is asked for (`config.py`), what has
one value alone here must have it, and what a run's data, environment and log are is named as such; anything else is
refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

NETWORK = {"act": "elu", "norm": "none"}  # of every network
FIXED: Mapping[str, Any] = {  # by the last words of a name, what alone is done here
    "rssm.ensemble": 1,
    "encoder.mlp_keys": "$^",
    "encoder.cnn_keys": "image",
    "encoder.cnn_kernels": [4, 4, 4, 4],
    "encoder.res_norm": "batch",
    "decoder.mlp_keys": "$^",
    "decoder.cnn_keys": "image",
    "decoder.cnn_kernels": [5, 5, 6, 6],
    "decoder.res_norm": "batch",
    "vanet.mlp_keys": "$^",
    "vanet.cnn_keys": "image",
    "vanet.cnn_kernels": [4, 4, 4, 4],
    "vanet.res_norm": "batch",
    "vanet.std_act": "sigmoid2",
    "action_encoder.std_act": "sigmoid2",
    "action_encoder.twl": 1,
    "kl.forward": False,
    "reward_head.dist": "mse",
    "discount_head.dist": "binary",
    "actor.dist": "auto",
    "actor.min_std": 0.1,
    "critic.dist": "mse",
    "beta_type": "abs",
    "intr_reward_norm.scale": 1.0,
    "intr_reward_norm.init": 1.0,
    "reward_norm.scale": 1.0,
    "reward_norm.eps": 1e-8,
    "imag_batch": -1,
    "actor_grad": "auto",
    "slow_target": True,
    "expl_behavior": "greedy",
    "eval_state_mean": False,
    "precision": 32,
    "load_strict": True,
    "finetune_rssm": False,
}
# Of a run: where it lies, its data, environment, log and explorer. No network depends on it.
OF_THE_RUN = frozenset(
    (
        "action_repeat",
        "actor_grad_mix",
        "atari_grayscale",
        "camera",
        "carla",
        "carla_port",
        "dataset",
        "dataset_type",
        "device",
        "disag_action_cond",
        "disag_log",
        "disag_models",
        "disag_offset",
        "disag_target",
        "dmc_camera",
        "dmcr_vary",
        "envs",
        "envs_parallel",
        "eval_eps",
        "eval_every",
        "eval_noise",
        "eval_video_list",
        "expl_extr_scale",
        "expl_head",
        "expl_intr_scale",
        "expl_model_loss",
        "expl_noise",
        "expl_opt",
        "expl_reward_norm",
        "expl_until",
        "jit",
        "load_logdir",
        "load_model_dir",
        "load_modules",
        "log_every",
        "log_keys_max",
        "log_keys_mean",
        "log_keys_sum",
        "log_keys_video",
        "logdir",
        "manual_labels",
        "prefill",
        "render_size",
        "replay",
        "save_all_models",
        "seed",
        "slow_baseline",
        "steps",
        "stop_steps",
        "task",
        "time_limit",
        "train_every",
        "train_steps",
        "video_dir",
        "video_every",
        "video_list",
        "wandb",
    )
)
# Settings of parts that a file's agent lacks, and sizes of other kinds of encoder.
UNUSED = ("encoder.mlp_layers", "decoder.mlp_layers", "vanet.mlp_layers", "loss_scales.proprio", "loss_scales.action")


class Stated:
    """The entries of a nested config by dotted name; what was asked for is known."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._flat, self._asked = dict(_flat(config)), set[str]()

    def __call__(self, name: str, otherwise: Any = None) -> Any:
        """An entry. Raises ValueError where it is missing and nothing else is given."""
        self._asked.add(name)
        found = self._flat.get(name, otherwise)
        if found is None:
            raise ValueError(f"meta/config does not state '{name}'")
        return found

    def has(self, name: str) -> bool:
        """Whether there is an entry, or a section."""
        return any(each == name or each.startswith(f"{name}.") for each in self._flat)

    def require(self, name: str, value: Any) -> None:
        """Raises ValueError where an entry is there and differs."""
        if self.has(name) and self(name) != value:
            raise ValueError(f"meta/config states {name} = {self(name)}, where the other sizes make it {value}")

    def ignore(self, section: str) -> None:
        """A section that means nothing to this agent."""
        self._asked |= {name for name in self._flat if name == section or name.startswith(f"{section}.")}

    def finish(self) -> None:
        """Raises ValueError for an entry that nobody asked for, and for one that is fixed and differs or is missing."""
        for name in FIXED:
            section, _, _ = name.rpartition(".")
            if section and self.has(section) and name not in self._flat:
                raise ValueError(f"meta/config does not state '{name}'")
        for name, value in self._flat.items():
            end = name.rpartition(".")[2]
            section = ".".join(name.replace("af_rssm", "rssm").split(".")[-2:])
            wanted = FIXED.get(section, NETWORK.get(end) if "." in name else None)
            if wanted is not None:
                if value != wanted:
                    raise ValueError(f"meta/config states {name} = {value}, where this project has {wanted} alone")
            elif name not in self._asked and name.split(".")[0] not in OF_THE_RUN and name not in UNUSED:
                raise ValueError(f"meta/config states '{name}', which is not known here")


def _flat(stated: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in stated.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
