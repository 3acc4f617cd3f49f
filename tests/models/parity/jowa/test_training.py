"""What the shared files do not show: stages whose model does without the recorded tables of task embeddings."""

from dataclasses import replace

import numpy as np
import pytest

from models.parity.golden_file import GoldenFile
from models.parity.jowa.case import Case
from models.parity.jowa.config import Stage, stages
from models.parity.jowa.training import stage_outputs
from tests.models.parity.golden_files import JOWA, Arrays, load, reduced

TABLE = "task_emb.embedding_tables.0.weight"


def stage_of(arrays: Arrays, name: str) -> tuple[Case, Stage]:
    golden = GoldenFile(arrays)
    (stage,) = (stage for stage in stages(golden.config) if stage.name == name)
    return Case.of(golden), stage


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return reduced(load(JOWA))


def test_unused_tables_have_no_gradient_and_stay(arrays: Arrays) -> None:
    case, stage = stage_of(arrays, "stage1")
    used = stage_outputs(case, stage)
    unused = stage_outputs(case, replace(stage, model=replace(stage.model, task_embedding=False)))
    assert used.keys() == unused.keys()
    assert used[f"grad/stage1/{TABLE}"] > 0 and unused[f"grad/stage1/{TABLE}"] == 0
    weight = arrays[f"weights/jowa/{TABLE}"].astype(np.float64)
    for prefix in ("after_step", "after_step2"):
        total, norm = unused[f"{prefix}/stage1/{TABLE}"].tolist()
        assert (total, norm) == (pytest.approx(weight.sum()), pytest.approx(np.linalg.norm(weight)))


def test_a_stage_without_steps_has_a_loss_and_gradients(arrays: Arrays) -> None:
    case, stage = stage_of(arrays, "stage2")
    kinds = {name.split("/")[0] for name in stage_outputs(case, replace(stage, steps=0))}
    assert kinds == {"loss", "info", "grad", "grad_norm"}


def test_an_optimiser_of_the_other_networks_is_refused(arrays: Arrays) -> None:
    case, stage = stage_of(arrays, "stage1")
    with pytest.raises(ValueError, match="stage stage1 trains 'world' by Adam"):
        stage_outputs(case, replace(stage, optimiser="Adam"))
