"""IRIS so small that a round takes a second: changes of its recipes, and the command that freezes experiments of it.

SMALL has the sizes alone; with ONLINE an agent plays 40 steps.
"""

from pipelines.cli import run

GAME = "Breakout"
TINY = {
    "networks.tokenizer": "vocab_size=16 embed_dim=8 z_channels=8 channels=4 norm_groups=2 res_blocks=1 "
    "attention=false attention_at=",
    "networks.world_model": "vocab_size=16 layers=1 heads=2 width=16 max_steps=4",
    "networks.actor_critic": "channels=4,4,4,4 hidden=8 horizon=3 burn_in=2",
    "uses.tokenizer": "start=0 updates=2 batch=4",
    "uses.world_model": "start=0 updates=2 batch=4",
    "uses.actor_critic": "start=0 updates=2 batch=4",
    "check": "every=0 steps=0",
    "loop": "precision=float32 save_seconds=0",
}
SMALL = [f"learn.{part}.{each}" for part, fields in TINY.items() for each in fields.split()]
SMALL += ["learn.rounds=1", "learn.sight_frames=2"]
ONLINE = [*SMALL, "learn.collect.steps=40"]


def new(name: str, of: str, changes: list[str], game: str = GAME) -> int:
    return run(
        [
            "experiment",
            "new",
            name,
            "--recipe",
            of,
            "--games",
            game,
            *(text for each in changes for text in ("--set", each)),
        ]
    )
