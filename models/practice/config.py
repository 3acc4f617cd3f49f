"""How an actor-critic that practises inside a world model is built and learns. Imports no torch."""

from dataclasses import dataclass

from models.limits import Few, Share, Size, Weight, check


@dataclass(frozen=True)
class ActorCriticConfig:
    """The policy and its values, of pixels, and how they learn (arXiv 2209.00588, section 2.3 and appendix A.3)."""

    channels: tuple[Size, ...] = (32, 32, 64, 64)  # of convolutions, each of which halves the frame
    hidden: Size = 512  # of the LSTM
    num_actions: Size = 18
    resolution: Size = 64
    frame_channels: Size = 3
    horizon: Size = 20  # imagined steps
    burn_in: Few = 20  # real frames that fill the LSTM's state before
    gamma: Share = 0.995
    lambda_: Share = 0.95
    value: Weight = 1.0
    entropy: Weight = 0.001

    def __post_init__(self) -> None:
        check(self, "actor_critic")
        if not self.channels:
            raise ValueError("actor_critic.channels is empty: give a convolution or more, as (32, 32, 64, 64)")
        if self.horizon < 2:
            raise ValueError("actor_critic.horizon 1 leaves nothing to learn: a return needs the value of a later step")
        if self.resolution % 2 ** len(self.channels):
            raise ValueError(
                f"Frames of {self.resolution} pixels cannot be halved {len(self.channels)} times: give "
                "actor_critic.channels fewer convolutions"
            )
