"""What an agent of the Dreamer family is made of: which actions its world reads, which RSSMs, heads and terms it has.

DreamerV2, APV, ContextWM, PreLAR and their baselines are settings of one config; `systems.py` has them with the
published numbers. Learning rates, clipping and the order of turns belong to the schedule. Imports no torch.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from models.family import AgentConfig, Takes
from models.limits import Dropout, Few, Positive, Share, Size, Weight, Within, check
from models.rssm.config import (
    ActionEncoderConfig,
    BonusConfig,
    FramesConfig,
    HeadConfig,
    KlConfig,
    LatentActionConfig,
    RssmConfig,
)

ADAM_EPS = 1e-5


@dataclass(frozen=True)
class WeightsConfig:
    """What the world model's terms weigh; one that weighs 0 is left out, and `aux_reward` with its head."""

    kl: Weight = 1.0
    first_kl: Weight = 0.0  # of the action-free model below, where two are stacked
    image: Weight = 1.0
    reward: Weight = 1.0
    aux_reward: Weight = 0.0  # of the environment's own reward, where the other head learns the bonus too
    discount: Weight = 1.0
    latent_kl: Weight = 1.0
    consistency: Weight = 1.0

    def __post_init__(self) -> None:
        check(self, "weights")


@dataclass(frozen=True)
class BehaviourConfig:
    """The actor and its critic, and how they learn from what the world imagines (arXiv 2010.02193, section 2.2)."""

    actor: HeadConfig = field(default_factory=HeadConfig)
    critic: HeadConfig = field(default_factory=HeadConfig)
    horizon: Annotated[int, Within(least=2, most=1024)] = 15
    discount: Dropout = 0.99
    lambda_: Share = 0.95
    entropy: Weight = 1e-4
    target_every: Size = 100  # updates after which the target critic follows
    target_share: Share = 1.0  # how far it goes then; the first time all the way
    reward_momentum: Share = 1.0  # of the size by which imagined rewards are divided; 1: they are not

    def __post_init__(self) -> None:
        check(self, "behaviour")


@dataclass(frozen=True)
class Faults:
    """What the originals do and is mended here, one by one; their recorded numbers need all of it but what is noted.

    entropy_in_targets: the critic learns returns to which the actor's entropy bonus was added in place, but for the
    first step's. wide_prior: latent actions are drawn towards a Gaussian whose std went through the network's own
    bending and became 1.245. constant_latent_kl: a divergence of discrete latent actions is log(classes) whatever they
    are, without gradient. unmasked_exchange: where a sequence begins anew in the middle, an exchanged action is read
    with the state before it. late_positions: the decoder's places are made after the optimiser, so that neither it nor
    its clipping knows them (PreLAR's repository; not ContextWM's own). weightless_terms: a term that weighs 0 is
    differentiated all the same, so that Adam's decay moves what it alone reaches.

    What else they do is mended where it belongs, and no recorded number needs it: exchanges of actions have no fixed
    point; an action that nothing led to and a state before the first frame are left out, not multiplied by 0; stacked
    models carry a state each; the queue of a bonus and the target's count of updates are part of the weights and go on
    when a run does; pictures repeat where draws do; plain latent actions lose in float32; rounding puts no action at
    infinity.
    """

    entropy_in_targets: bool = False
    wide_prior: bool = False
    constant_latent_kl: bool = False
    unmasked_exchange: bool = False
    late_positions: bool = False
    weightless_terms: bool = False


@dataclass(frozen=True)
class DreamerConfig(AgentConfig):
    """All networks of an agent; defaults are DreamerV2's on Meta-world but for the encoder.

    reads: which actions its world reads: the environment's; none (APV's pre-training); those that an inverse-dynamics
    network tells from the video (PreLAR's); the environment's through an action encoder (PreLAR's fine-tuning).
    stacked: frames are read by an action-free RSSM, whose features the other one reads (APV). room: numbers of an
    action that an RSSM has weights for (0: as many as are read). bonus_of: what the bonus compares.
    split: encoder and the RSSM that was trained on videos have an optimiser of their own, whose rate is 0 for the first
    `delay` updates.
    """

    family: str = "dreamer"
    frame: tuple[int, int, int] = (64, 64, 3)
    actions: Size = 4
    reads: Literal["environment", "nothing", "video", "encoded"] = "environment"
    stacked: bool = False
    concat_embed: bool = False  # stacked: the second model reads the embedded frame too
    room: Few = 0
    rssm: RssmConfig = field(default_factory=RssmConfig)
    frames: FramesConfig = field(default_factory=FramesConfig)
    latent_action: LatentActionConfig = field(default_factory=LatentActionConfig)
    action_encoder: ActionEncoderConfig = field(default_factory=ActionEncoderConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    ends: bool = False  # whether a head tells of ends; otherwise all steps are discounted alike
    ends_head: HeadConfig = field(default_factory=HeadConfig)
    bonus: BonusConfig = field(default_factory=BonusConfig)
    bonus_of: Literal["embedding", "feature"] = "embedding"
    kl: KlConfig = field(default_factory=KlConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    consistency: Literal["none", "sign", "soft", "relative"] = "none"
    sharpness: Positive = 1.0  # of the soft and the relative one
    rewards: Literal["identity", "tanh", "sign"] = "identity"
    reward_unit: Positive = 1.0  # by which rewards are divided before
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    split: bool = False
    delay: Few = 0
    segment: Size = 50  # steps that are learned at once; of videos 25 are usual
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        check(self, "agent")
        size = self.frames.resolution
        if self.frame != (size, size, 3):
            raise ValueError(
                f"frame {self.frame} and frames.resolution {size} differ: make both the same, of 3 colours"
            )
        if self.stacked and self.reads != "environment":
            raise ValueError(
                f"stacked models read the environment's actions, not reads={self.reads}: unset stacked, or set "
                "reads=environment"
            )
        if self.room and self.room < self.read_actions:
            raise ValueError(f"room {self.room} is less than the {self.read_actions} numbers of an action: raise it")
        if self.reads == "nothing" and not self.room:
            raise ValueError("reads=nothing keeps weights for later actions: say how many numbers with room")
        if self.consistency != "none" and (self.reads != "video" or self.latent_action.kind == "deterministic"):
            raise ValueError(
                f"consistency={self.consistency} compares distributions of latent actions: set reads=video and a "
                "latent_action.kind that is not deterministic, or consistency=none"
            )

    @property
    def practises(self) -> bool:
        """Whether it has rewards and an actor; otherwise it learns videos."""
        return self.reads in ("environment", "encoded")

    @property
    def watches(self) -> bool:
        """See `AgentConfig`."""
        return not self.practises

    @property
    def read_actions(self) -> int:
        """Numbers of an action as an RSSM is given it."""
        widths = {"nothing": 0, "video": self.latent_action.numbers, "encoded": self.action_encoder.numbers}
        return widths.get(self.reads, self.actions)

    @property
    def takes(self) -> Takes:
        """See `AgentConfig`: actions are numbers from -1 to 1."""
        return Takes(frame=self.frame, numbers=self.actions if self.practises else None)

    def length(self, objective: str) -> int | None:
        """A segment; with actions and rewards also the step before it, whose action led to the first frame."""
        return self.segment + self.practises

    def least(self, objective: str) -> int:
        """Every step of a segment is real."""
        return self.segment

    def require_fit(self, length: int) -> None:
        """See `AgentConfig`: there is no head of ends, of which stored episodes show none."""
        if self.ends:
            raise ValueError(
                "ends=true learns ends from the frame behind the last action, which episodes do not hold: set "
                "ends=false, and all steps are discounted alike"
            )

    def require_world(self, watched: AgentConfig) -> None:
        """See `AgentConfig`: encoder, decoder and state-space model are of the same sizes."""
        if not isinstance(watched, DreamerConfig):
            raise ValueError(
                f"networks: pretrain_videos is of the family '{watched.family}': take one of '{self.family}'"
            )
        for name in ("rssm", "frames"):
            ours, theirs = (getattr(each, name) for each in (self, watched))
            if isinstance(ours, FramesConfig):  # what is left blank is no size
                ours, theirs = (replace(each, blanked=0.0) for each in (ours, theirs))
            if ours != theirs:
                raise ValueError(
                    f"{name} differs from pretrain_videos.{name}, which it goes on from: make both the same"
                )
        ours, theirs = (each.room or each.read_actions for each in (self, watched))
        if ours != theirs:
            raise ValueError(
                f"room: this world reads {ours} numbers an action and that of pretrain_videos {theirs}: give both the "
                "same room, or an action_encoder.width of latent_action.width"
            )

    def whole_batches(self, objective: str) -> str:
        """Batch norms, and what is compared within a batch, are those of whole batches."""
        return "dreamer's batch norms are of whole batches: set it to 1"

    @property
    def alone(self) -> str:
        """See `AgentConfig`."""
        return "batch norms of the family 'dreamer' are of whole batches: take one rank"
