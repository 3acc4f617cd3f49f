import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.parity.golden_file import GoldenFile, renamed

META = {"meta/family": np.array("toy"), "meta/config": np.array('{"a": 1}')}


def test_inputs_come_as_networks_read_them_and_are_remembered() -> None:
    arrays = META | {
        "batch/a": np.array([1, 2], np.int32),
        "weights/net/b": np.array([0.5], np.float64),
        "weights/net/c": np.array([True]),
        "weights/other/d": np.array([3], np.uint8),
        "loss/total": np.array(1.0),
    }
    golden = GoldenFile(arrays)
    assert (golden.family, golden.config) == ("toy", {"a": 1})
    assert golden.tensor("batch/a").dtype == torch.long
    weights = golden.tensors("weights/net/")
    assert {name: tensor.dtype for name, tensor in weights.items()} == {"b": torch.float32, "c": torch.bool}
    assert golden.read == {"meta/family", "meta/config", "batch/a", "weights/net/b", "weights/net/c"}
    weights["b"][0] = 7
    assert arrays["weights/net/b"][0] == 0.5  # a copy


def test_what_is_missing_or_no_input_is_named() -> None:
    golden = GoldenFile(META | {"loss/total": np.array(1.0), "batch/word": np.array("up")})
    with pytest.raises(ValueError, match="input batch/a is missing"):
        golden.tensor("batch/a")
    with pytest.raises(ValueError, match="loss/total is an output"):
        golden.tensor("loss/total")
    with pytest.raises(ValueError, match="batch/word holds <U2, no numbers"):
        golden.tensor("batch/word")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"meta/family": None}, "meta/family is missing"),
        ({"meta/family": np.zeros(3)}, "meta/family is missing or no text"),
        ({"meta/config": np.array("{")}, "meta/config is no JSON"),
        ({"meta/config": np.array("[1]")}, "meta/config is no JSON object"),
    ],
)
def test_a_file_states_its_family_and_config(change: dict[str, np.ndarray | None], words: str) -> None:
    arrays = {name: array for name, array in (META | change).items() if array is not None}
    with pytest.raises(ValueError, match=words):
        GoldenFile(arrays)


@given(st.text(max_size=30))
def test_any_text_is_an_object_or_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except json.JSONDecodeError:
        expected = None
    try:
        assert GoldenFile(META | {"meta/config": np.array(text)}).config == expected
    except ValueError:
        # NumPy drops NULs at the end of a text, so that what is read may be JSON where the text is none, never else.
        assert not isinstance(expected, dict)


def test_a_config_is_renamed_by_a_table() -> None:
    stated = {"net": {"ch": 8, "mult": [1, 2]}, "eps": 1e-6}
    names, fixed = {"net.ch": "channels", "net.mult": "factors"}, {"eps": 1e-6}
    assert renamed(stated, names, fixed) == {"channels": 8, "factors": (1, 2)}
    with pytest.raises(ValueError, match="states eps = 1e-05, where this project has 1e-06 alone"):
        renamed(stated | {"eps": 1e-5}, names, fixed)
    with pytest.raises(ValueError, match=r"states 'net\.groups', which is not known here"):
        renamed({"net": {**stated["net"], "groups": 2}, "eps": 1e-6}, names, fixed)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"does not state 'net\.mult'"):
        renamed({"net": {"ch": 8}, "eps": 1e-6}, names, fixed)
