"""Storage profiles: the shipped ones load, mistakes name value, rule and repair, secrets stay out of files."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError, WorldlineError
from pipelines.store.profile import KEYS, Profile, load, names, parse

names_of_variables = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
plain = st.text(st.characters(exclude_characters="$", exclude_categories=["Cs", "Cc"]), max_size=20)


def test_the_shipped_profiles_load_and_document_every_key() -> None:
    assert names() == ["ci", "gcs", "local", "rlu", "s3"]
    assert load("local", {}) == Profile("local")
    assert load("ci", {"CI_CACHE_DIR": "/cache"}).artefact_root == "/cache/store"
    assert load("ci", {}).artefact_root == ".worldline/store"
    assert load("gcs", {}) == Profile("gcs", "gs://atari-replay-datasets/dqn", options={"token": "anon"})
    rlu = load("rlu", {})
    assert (rlu.replay_root, rlu.layout) == ("gs://rl_unplugged/atari_episodes_ordered", "rl_unplugged")
    assert load("s3", {"WORLDLINE_S3_ROOT": "s3://b/dqn"}) == Profile("s3", "s3://b/dqn")
    with pytest.raises(UsageError, match="replay_root needs the variable WORLDLINE_S3_ROOT: export WORLDLINE_S3_ROOT"):
        load("s3", {})
    text = (Path(__file__).parents[3] / "storage_configs" / "local.yaml").read_text()
    for key in KEYS:
        assert re.search(rf"\n\n# [^\n]+\n{key}: ", text), f"{key} has no comment of its own"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "replay_root: gs://atari-replay-datasets/dqn\nartefact_root: file:///data/store\nscratch: ~/fast\n"
        "cache_bytes: ${CACHE:-1000}\noptions: {token: anon, nested: {list: ['${A}', 1, true]}}\n"
    )
    profile = load(str(path), {"A": "x"})
    assert profile.replay_root == "gs://atari-replay-datasets/dqn"
    assert profile.artefact_folder() == Path("/data/store")
    assert profile.scratch_folder() == Path.home() / "fast"
    assert profile.cache_bytes == 1000
    assert profile.options == {"token": "anon", "nested": {"list": ["x", 1, True]}}
    assert load(str(path), {"A": "y", "CACHE": "7"}).cache_bytes == 7


def test_an_empty_profile_is_all_defaults_and_relative_folders_become_absolute() -> None:
    assert parse("", "x", {}) == Profile("x")
    assert Profile("x").artefact_folder() is None and Profile("x").scratch_folder() is None
    assert Profile("x", artefact_root="here").artefact_folder() == Path.cwd() / "here"


def test_artefacts_may_lie_in_a_bucket() -> None:
    profile = parse("artefact_root: gs://bucket/store/", "p", {})
    assert profile.artefact_bucket == "gs://bucket/store" and profile.artefact_folder() is None
    assert Profile("x", artefact_root="file:///here").artefact_bucket is None is Profile("x").artefact_bucket


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("locl", r"Unknown storage profile 'locl': did you mean 'local'\?"),
        ("zzzz", "Unknown storage profile 'zzzz': choose one of ci, gcs, local, rlu, s3"),
        ("../local", "Unknown storage profile"),
        ("nowhere/x.yaml", r"'nowhere/x\.yaml' cannot be read .*: give the path of a file"),
    ],
)
def test_unknown_profiles(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        load(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("artifact_root: x", r"'artifact_root': did you mean 'artefact_root'\? .*keys are replay_root"),
        ("1: x", "Unknown key in storage profile p '1'"),
        ("name: x", "Unknown key in storage profile p 'name'"),
        ("cache_bytes: many", "cache_bytes is 'many', it must be a whole number"),
        ("cache_bytes: -1", "cache_bytes is -1"),
        ("cache_bytes: true", "cache_bytes is True"),
        ("cache_bytes: 1.5", r"cache_bytes is 1\.5"),
        ("scratch: [a]", r"scratch is \['a'\], it must be text"),
        ("options: 3", "options is 3, it must be a mapping"),
        ("options: {1: 2}", "options has 1, which is no option's name"),
        ("replay_root: gs://", "replay_root 'gs://' names no bucket: write gs://BUCKET/FOLDER"),
        ("replay_root: s3:///", "replay_root 's3:///' names no bucket"),
        ("replay_root: file://", "replay_root 'file://' names no folder: write file:///FOLDER"),
        ("a: b: c", "is not YAML at line 1"),
        ("\tx: 1", "is not YAML at line 1"),
        ("- a", "is a list: write 'key: value' lines"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("options: &a {again: *a}", "contains itself"),
        ("scratch: ${HOME", r"scratch has a broken variable: write \$\{NAME\}"),
        ("scratch: ${1X}", "broken variable"),
        ("scratch: ${UNSET}/x", r"scratch needs the variable UNSET: export UNSET=\.\.\."),
    ],
)
def test_mistakes_in_a_profile_are_one_line_each(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse(text, "p", {})
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "line",
    [
        "token: abc",
        "secret: abc",
        "PASSWORD: abc",
        "key: AKIA",
        "client: {api_key: 5}",
        "secret: '${S:-abc}'",
        "secret: 'x${S}'",
        "headers: {X-Api-Key: abc}",
        "headers: {authorization: Bearer abc}",
    ],
)
def test_secrets_in_files_are_refused_without_being_repeated(line: str) -> None:
    with pytest.raises(UsageError, match=r"is a secret and must not stand in a file: write \$\{[A-Z_]+\}") as caught:
        parse(f"options:\n  {line}", "p", {"S": "hush"})
    assert "abc" not in str(caught.value) and "AKIA" not in str(caught.value)


def test_secrets_come_from_the_environment() -> None:
    profile = parse("options: {secret: '${S}', token: anon, client: {api_key: '${K}'}}", "p", {"S": "hush", "K": "k"})
    assert profile.options == {"secret": "hush", "token": "anon", "client": {"api_key": "k"}}
    for url in ("s3://me:hush@host/bucket", "https://host/dqn?sig=hush", "https://hush@host/dqn"):
        with pytest.raises(UsageError, match="replay_root holds a password or a signature") as caught:
            parse(f"replay_root: {url}", "p", {})
        assert "hush" not in str(caught.value)


def test_what_options_take_from_the_environment_shows_in_no_message() -> None:
    text = "options: {token: '${T}', nested: {token: {inner: '${I}'}, list: ['Key ${L}'], url: '${U:-http://host}'}}"
    values = {"T": "hush", "I": "more", "L": "most-of-all", "U": "https://elsewhere"}
    profile = parse(text, "p", values)
    assert "hush" not in repr(profile)
    said = str(WorldlineError(f"{profile.options} with hush in /data"))
    assert not [value for value in values.values() if value in said]
    assert "${T}" in said and "${I}" in said and "Key ${L}" in said and "${U}" in said and said.endswith("in /data")
    parse("options: {url: '${U:-http://host}', token: '${T}'}\nreplay_root: ${R}", "p", {"T": "anon", "R": "gs://a/b"})
    assert str(WorldlineError("http://host gs://a/b anon")) == "http://host gs://a/b anon"


@given(names_of_variables, plain, plain, plain)
def test_variables_are_replaced_once_and_only_they(name: str, value: str, before: str, default: str) -> None:
    default = default.replace("{", "").replace("}", "")
    text = "scratch: " + repr_yaml(f"{before}${{{name}:-{default}}}")
    expected = before + (value or default)
    assert (parse(text, "p", {name: value}).scratch or "") == expected


def repr_yaml(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_a_value_that_looks_like_a_variable_is_not_filled_again() -> None:
    assert parse("scratch: ${A}", "p", {"A": "${B}", "B": "no"}).scratch == "${B}"


@pytest.mark.parametrize("key", ["artefact_root", "scratch"])
def test_artefacts_and_scratch_must_be_local(key: str) -> None:
    kind = "https" if key == "artefact_root" else "gs"  # artefacts may lie in a bucket that takes them on conditions
    profile = parse(f"{key}: {kind}://bucket/store", "p", {})
    ask = profile.artefact_folder if key == "artefact_root" else profile.scratch_folder
    other = "" if key == "scratch" else " or gs://BUCKET/PREFIX or s3://BUCKET/PREFIX"
    with pytest.raises(WorldlineError) as caught:
        ask()
    rule = "must be a folder of this machine" + ("" if key == "scratch" else ", or a bucket of GCS or S3")
    said = f"Storage profile p: {key} is {kind}://bucket/store, it {rule}: give a path{other}"
    assert str(caught.value) == said
