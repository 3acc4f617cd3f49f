"""All model families by name: the one line that a new family adds outside its folder. Imports no torch.

Run: `python -c "from models.registry import FAMILIES; print(*FAMILIES)"`.
"""

from models.delta_iris.family import DELTA_IRIS
from models.dreamer.family import DREAMER
from models.family import AgentConfig, Family
from models.iris.family import IRIS
from models.jowa.family import JOWA
from models.rem.family import REM
from models.simulus.family import SIMULUS

FAMILIES: dict[str, Family] = {each.name: each for each in (JOWA, IRIS, REM, SIMULUS, DELTA_IRIS, DREAMER)}


def family(name: str) -> Family:
    """The family of that name. Raises ValueError with the names that there are."""
    if name not in FAMILIES:
        raise ValueError(f"Unknown model family '{name}': choose from {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def family_of(config: AgentConfig) -> Family:
    """The family that a config belongs to. Raises ValueError for one of none."""
    return family(config.family)
