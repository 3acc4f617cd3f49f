"""The plug of the Dreamer family (arXiv 2010.02193, 2203.13880, 2305.18499; PreLAR): its objectives, and where its
networks are. Imports no torch.
"""

from models.dreamer.config import DreamerConfig
from models.family import Family, Objective, Segments

WORLD, BEHAVIOUR = "world", "behaviour"

DREAMER = Family(
    name="dreamer",
    config=DreamerConfig,
    agent="models.dreamer.agent:DreamerAgent",
    objectives={
        WORLD: Objective(trains=("world_model",), reads=Segments(padding="left")),
        BEHAVIOUR: Objective(trains=("behaviour",), reads=Segments(padding="left")),
    },
    planners=("actor", "greedy"),
    one_file="variables.pt",
    whole_names=True,
    part_files={
        "rssm_variables.pt": "wm.rssm.",
        "encoder_variables.pt": "wm.encoder.",
        "decoder_variables.pt": "wm.heads.decoder.",
        "va_encoder_variables.pt": "wm.va_encoder.",
    },
)
