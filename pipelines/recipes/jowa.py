"""The paper's recipes: 15 games of DQN-Replay, two training stages, three sizes, and fine-tuning on one game.

Each derives from the one before. They read the bucket of the storage profile: `worldline experiment new mine --recipe
jowa_150m --storage gcs`. `worldline finetune EXPERIMENT --game Pong` derives a fine-tuning from any experiment: the
same training, then the same networks on the best episodes of one game.
Source: JOWA (ICLR 2025, arXiv 2410.00564), its sections on training and fine-tuning, its appendix of hyper-parameters.
"""

from dataclasses import replace

from models.jowa.config import JowaAgentConfig, JowaConfig
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError
from pipelines.graph.recipe import Recipe
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import FinetuneConfig, PretrainConfig, TrainConfig
from pipelines.stages.tune import TuneConfig
from pipelines.training.schedule import ImagineConfig, LoopConfig, Phase, Use

JOWA = JowaAgentConfig().family

TRAINING_GAMES = (
    "Assault", "Atlantis", "BeamRider", "Berzerk", "Carnival", "Centipede", "ChopperCommand", "DemonAttack",
    "NameThisGame", "Phoenix", "Seaquest", "SpaceInvaders", "StarGunner", "TimePilot", "Zaxxon",
)  # fmt: skip

# A game that pre-training never saw borrows the task embedding of one like it; Pong keeps its own.
BORROWED_TASKS = {
    "Gravitar": "TimePilot",
    "MsPacman": "Berzerk",
    "Robotank": "Phoenix",
    "YarsRevenge": "ChopperCommand",
}


def jowa_40m() -> Recipe:
    """JOWA-40M: 4 layers of width 512; 10 M transitions a game, 1.75 M steps of 512 segments."""
    stage_1 = Phase("tokenizer_and_world", 250_000, (Use("tokenizer", 2048), Use("world", 512)))
    stage_2 = Phase("world_action", 1_500_000, (Use("world_action", 512, lr=5e-5),))
    task_ids = tuple((game_id(game), game_id(lender)) for game, lender in BORROWED_TASKS.items())
    recipe = Recipe(
        "jowa_40m",
        games=TRAINING_GAMES,
        source="bucket",
        agents=(1, 2),  # two of the five, as the paper; it draws another pair for each game
    )
    return recipe.but(
        collect=CollectConfig(),
        fetch=FetchConfig(),
        segment=SegmentConfig(),
        tokenize=TokenizeConfig(),
        tune=TuneConfig(),
        downsample=DownsampleConfig(transitions=10_000_000),
        pretrain=PretrainConfig(
            networks=JowaAgentConfig(model=JowaConfig(task_ids=task_ids)),
            phases=(stage_1,),
            loop=LoopConfig(save_seconds=600.0, workers=4),
        ),
        train=TrainConfig(
            phases=(stage_2,),
            loop=LoopConfig(save_seconds=600.0, workers=4, evaluate_every=50_000),  # how often is not published
        ),
        evaluate=EvaluateConfig(protocol="jowa", episodes=16, beam_episodes=16, settings="jowa_40m"),
    )


def jowa_70m() -> Recipe:
    """JOWA-70M: 6 layers of width 768."""
    return _resized(jowa_40m(), "jowa_70m", layers=6, heads=12, width=768, q_hidden=1024)


def jowa_150m() -> Recipe:
    """JOWA-150M: 12 layers of width 768 and three Q heads."""
    return _resized(jowa_70m(), "jowa_150m", layers=12, num_q=3, q_hidden=1792)


def _resized(base: Recipe, name: str, **sizes: int) -> Recipe:
    networks = base.pretrain.networks
    assert isinstance(networks, JowaAgentConfig)
    networks = replace(networks, model=replace(networks.model, **sizes))  # type: ignore[arg-type]  # whole numbers
    evaluate = replace(base.evaluate, settings=name)
    return base.but(name=name, pretrain=replace(base.pretrain, networks=networks), evaluate=evaluate)


def finetuned(base: Recipe, game: str, episodes: int = 4, imagined: bool = False, recording: str = "") -> Recipe:
    """`base`, whose artefacts it shares, followed by fine-tuning. `game` need not be one that `base` was trained on.

    recording: the address of what was played and kept, to learn from in place of the game's best episodes.

    Raises UsageError for an unknown game or no episode, and for an agent of another family.
    """
    for networks in (getattr(each, "networks", None) for each in base.stages):
        if networks is not None and networks.family not in ("", JOWA):
            raise UsageError(
                f"Recipe '{base.name}' has an agent of the family '{networks.family}', and only those of '{JOWA}' "
                "are fine-tuned on episodes: let 'worldline learn' go on with it (learn.agent)"
            )
    return base.but(
        finetune=FinetuneConfig(
            game=game,
            episodes=episodes,
            imagine=ImagineConfig() if imagined else None,
            recording=recording,
            lpips_file=getattr(base.pretrain.networks, "lpips_file", "") if base.pretrain else "",
            loop=base.train.loop if base.train else LoopConfig(),
        ),
    )


def jowa_40m_finetune() -> Recipe:
    """JOWA-40M, then on four episodes of Pong, which it never saw; --set finetune.game=Gravitar takes another."""
    return _on_pong(jowa_40m())


def jowa_70m_finetune() -> Recipe:
    """JOWA-70M, fine-tuned like jowa_40m_finetune."""
    return _on_pong(jowa_70m())


def jowa_150m_finetune() -> Recipe:
    """JOWA-150M, fine-tuned like jowa_40m_finetune."""
    return _on_pong(jowa_150m())


def jowa_40m_imagined() -> Recipe:
    """jowa_40m_finetune with imagined segments in its batches."""
    return _with_imagination(jowa_40m_finetune())


def jowa_70m_imagined() -> Recipe:
    """jowa_70m_finetune with imagined segments in its batches."""
    return _with_imagination(jowa_70m_finetune())


def jowa_150m_imagined() -> Recipe:
    """jowa_150m_finetune with imagined segments in its batches."""
    return _with_imagination(jowa_150m_finetune())


def _on_pong(base: Recipe) -> Recipe:
    """`base` keeps its name in the stages that it shares: they are the same artefacts."""
    return finetuned(base, "Pong")


def _with_imagination(recipe: Recipe) -> Recipe:
    assert recipe.finetune is not None, "it derives from a fine-tuning"
    return recipe.but(finetune=replace(recipe.finetune, imagine=ImagineConfig()))
