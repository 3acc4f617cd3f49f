"""Our numbers under the names of IRIS's `config/trainer.yaml`: the one file that its tools read from a run folder.

Every name is one of the released code's config files (github.com/eloialonso/iris: config/trainer.yaml and the
default.yaml of env, tokenizer, world_model and actor_critic), written out where these refer to each other. All that
its play tool reads is there. Left out is what the original has no word for, what an artefact does not say, such as a
training that happened elsewhere, and what is not about an agent (wandb, datasets, initialization): its evaluation
script sets some of these, so it needs a config folder of its own.
"""

from collections.abc import Mapping
from typing import Any

from pipelines.environments.registry import NoisyRules, protocol

Plain = Mapping[str, Any]


def trainer_config(game: str, networks: Plain, learning: Plain) -> dict[str, Any]:
    """networks: of an agent's config. learning: that of `world_model_agent`, or {} where it learned elsewhere."""
    found = {
        "common": {"device": "cpu", "sequence_length": networks["world_model"]["max_steps"]},
        "env": _environments(game, learning),
        "tokenizer": _tokenizer(networks["tokenizer"]),
        "world_model": _world_model(networks["world_model"]),
        "actor_critic": {"use_original_obs": False},
    }
    if learning:
        found["common"] |= {"epochs": learning["rounds"], "seed": learning["seed"]}
        found |= {
            "collection": _collection(learning, networks["actor_critic"]),
            "training": _training(learning, networks["actor_critic"]),
            "evaluation": {"should": learning["check"]["every"] > 0, "every": learning["check"]["every"]},
        }
    return found


def _environments(game: str, learning: Plain) -> dict[str, Any]:
    rules = {
        "train": learning["collect"]["protocol"] if learning else "iris-train",
        "test": learning["check"]["protocol"] if learning else "iris",
    }
    places = {place: _environment(game, name) for place, name in rules.items()}
    return places | {"keymap": f"atari/{places['train']['id']}"}


def _environment(game: str, name: str) -> dict[str, Any]:
    """The rules that have these numbers: those of Atari games."""
    rules: Any = protocol(name)
    rules = rules.rules if isinstance(rules, NoisyRules) else rules
    return {
        "_target_": "envs.make_atari",
        "id": f"{game}NoFrameskip-{'v0' if rules.sticky else 'v4'}",  # v0 repeats an action by a chance of 0.25
        "size": rules.frame[0],
        "max_episode_steps": rules.max_frames,
        "noop_max": max(rules.noop_max - 1, 0),
        "frame_skip": rules.frame_skip,
        "done_on_life_loss": rules.life_loss,
        "clip_reward": False,
    }


def _tokenizer(config: Plain) -> dict[str, Any]:
    return {
        "_target_": "models.tokenizer.Tokenizer",
        "vocab_size": config["vocab_size"],
        "embed_dim": config["embed_dim"],
        **{
            name.lower(): {"_target_": f"models.tokenizer.{name}", "config": _coder(config)}
            for name in ("Encoder", "Decoder")
        },
    }


def _coder(config: Plain) -> dict[str, Any]:
    """Of the encoder and the decoder alike."""
    return {
        "_target_": "models.tokenizer.EncoderDecoderConfig",
        "resolution": config["resolution"],
        "in_channels": config["frame_channels"],
        "out_ch": config["frame_channels"],
        "z_channels": config["z_channels"],
        "ch": config["channels"],
        "ch_mult": list(config["channel_mult"]) or [1] * (len(config["downsample"]) + 1),
        "num_res_blocks": config["res_blocks"],
        "attn_resolutions": list(config["attention_at"]),
        "dropout": 0.0,
    }


def _world_model(config: Plain) -> dict[str, Any]:
    return {
        "_target_": "models.TransformerConfig",
        "tokens_per_block": config["tokens_per_frame"] + 1,
        "max_blocks": config["max_steps"],
        "attention": "causal",
        "num_layers": config["layers"],
        "num_heads": config["heads"],
        "embed_dim": config["width"],
        **{f"{place}_pdrop": config["dropout"] for place in ("embed", "resid", "attn")},
    }


def _collection(learning: Plain, actor: Plain) -> dict[str, Any]:
    play, check = learning["collect"], learning["check"]
    return {
        "train": {
            "stop_after_epochs": play["until"] or learning["rounds"],
            "num_envs": play["environments"],
            "config": {
                "epsilon": play["epsilon"],
                "should_sample": True,
                "temperature": play["temperature"],
                "num_steps": play["steps"],
                "burn_in": actor["burn_in"],
            },
        },
        "test": {
            "config": {
                "epsilon": 0.0,
                "should_sample": check["temperature"] > 0,
                "temperature": check["temperature"],
                "num_episodes": check["episodes"],
                "burn_in": actor["burn_in"],
            },
        },
    }


def _training(learning: Plain, actor: Plain) -> dict[str, Any]:
    found: dict[str, Any] = {"should": True}
    for use in learning["uses"]:
        found.setdefault("learning_rate", use["lr"])  # the original has one for all
        found[use["name"]] = {
            "batch_num_samples": use["batch"],
            "grad_acc_steps": 1,
            "max_grad_norm": use["clip"],
            "start_after_epochs": use["start"],
            "steps_per_epoch": use["updates"],
        }
        if use["weight_decay"]:
            found[use["name"]]["weight_decay"] = use["weight_decay"]
    if "actor_critic" in found:
        found["actor_critic"] |= {
            "imagine_horizon": actor["horizon"],
            "burn_in": actor["burn_in"],
            "gamma": actor["gamma"],
            "lambda_": actor["lambda_"],
            "entropy_weight": actor["entropy"],
        }
    return found
