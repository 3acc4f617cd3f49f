"""What the doctor says of a storage profile, of who reads its bucket, and of proxies; no secret, no request."""

import json
import os
from pathlib import Path

import pytest

from pipelines.bucket import credentials
from pipelines.sources.source import local_url
from pipelines.tools import doctor_storage
from pipelines.tools.doctor import Finding
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.conftest import TinyRun


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home of its own, in which nobody is logged in and there is no proxy."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("WORLDLINE_STORAGE", "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(credentials, "MACHINE", tmp_path / "no machine of Google's")


def test_storage_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = doctor_storage.profile(None)
    assert good == Finding("storage", True, f"local: {tmp_path / 'home' / 'store'}")
    assert not (tmp_path / "home").exists()  # looking makes nothing
    assert "did you mean 'local'?" in doctor_storage.profile("locl").value

    path = tmp_path / "mine.yaml"
    path.write_text("artefact_root: gs://bucket/x\n")
    assert f": gs://bucket/x, copies in {tmp_path}/home/store-gs-bucket-x-" in doctor_storage.profile(str(path)).value
    path.write_text("artefact_root: https://bucket/x\n")
    assert "must be a folder of this machine, or a bucket" in doctor_storage.profile(str(path)).value
    (tmp_path / "file").write_text("")
    path.write_text(f"artefact_root: {tmp_path}/file/store\n")
    finding = doctor_storage.profile(str(path))
    assert (
        not finding.ok and "is not writable (Not a directory)" in finding.value and "a folder you own" in finding.repair
    )

    path.write_text(f"replay_root: file://{tmp_path}/bucket\n")
    assert not doctor_storage.profile(str(path)).ok
    (tmp_path / "bucket").mkdir()
    assert doctor_storage.profile(str(path)).ok
    path.write_text(f"replay_root: file://{tmp_path}/bucket\nlayout: rl-unplugged\n")
    finding = doctor_storage.profile(str(path))
    assert not finding.ok and "Unknown layout 'rl-unplugged': did you mean 'rl_unplugged'?" in finding.value
    path.write_text(f"replay_root: file://{tmp_path}/nothing\nlayout: rl_unplugged\n")
    assert doctor_storage.profile(str(path)).repair.endswith("holds GAME/run_AGENT-00000-of-00050")
    path.write_text("replay_root: gs://bucket/dqn\noptions: {token: anon}\n")
    assert doctor_storage.profile(str(path)).value.endswith("replay from gs://bucket/dqn (not tried)")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "p.yaml"


def test_a_local_replay_needs_no_credentials() -> None:
    assert doctor_storage.credentials("local").value == "none needed: replay and artefacts are on this machine"
    assert doctor_storage.credentials("locl").ok  # the storage profile is what fails


def test_who_reads_a_bucket_of_google(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(token: str) -> Finding:
        profile.write_text(f"replay_root: gs://b/dqn\noptions: {{token: '{token}'}}\n")
        return doctor_storage.credentials(str(profile))

    assert found("anon").value.endswith("none, the bucket is read anonymously (token: anon)")
    missing = found("google_default")
    assert not missing.ok and "gcloud auth application-default login" in missing.repair
    assert "No log-in to Google was found" in missing.value

    monkeypatch.setenv("GOOGLE_KEY", "ya29.hush")
    assert found("${GOOGLE_KEY}").value.endswith("the option token (not tried)")
    key = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_KEY", str(key))
    unread = found("${GOOGLE_KEY}")
    assert not unread.ok and unread.value.endswith(
        "The key file ${GOOGLE_KEY} cannot be read (No such file or directory)"
    )
    key.write_text('{"private_key": "hush", "client_email": "a@b"}')
    assert found("${GOOGLE_KEY}").value.endswith("a key file, read")

    key = key.rename(tmp_path / "other.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert found("google_default").value.endswith(f"{key}, as GOOGLE_APPLICATION_CREDENTIALS says")
    key.write_text("hush")
    broken = found("google_default")
    assert not broken.ok and "is not JSON" in broken.value and "hush" not in broken.value
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    usual = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    usual.parent.mkdir(parents=True)
    usual.write_text("{}")
    assert found("google_default").value.endswith(str(usual))


def test_who_reads_a_bucket_that_speaks_s3(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(options: str = "") -> Finding:
        profile.write_text(f"replay_root: s3://b/dqn\noptions: {{{options}}}\n")
        return doctor_storage.credentials(str(profile))

    assert found("anon: true").value.endswith("none, the bucket is read anonymously (anon: true)")
    missing = found()
    assert not missing.ok and missing.value.endswith("No credentials for s3:// were found")
    assert missing.repair.startswith("export AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("KEY", "hush-hush")
    assert found("key: '${KEY}', secret: '${KEY}'").value.endswith("the options key and secret (not tried)")
    unknown = found("profile: nobody")
    assert not unknown.ok and "The config profile (nobody) could not be found" in unknown.value
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[me]\naws_access_key_id = hush\naws_secret_access_key = hush\n")
    assert found("profile: me").value.endswith("shared-credentials-file, as boto calls it")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hush-hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    assert found().value.endswith("env, as boto calls it")


def test_other_kinds_of_buckets_are_not_looked_into(profile: Path) -> None:
    profile.write_text("replay_root: https://host/dqn")
    assert doctor_storage.credentials(str(profile)).value.endswith("none are asked for")
    profile.write_text("replay_root: abfs://container@account/dqn")
    assert doctor_storage.credentials(str(profile)).value.endswith("left to the client of abfs:// (not looked for)")


def test_proxies_are_told_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_storage.proxies().value == "none (HTTPS_PROXY and HTTP_PROXY are not set)"
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hush@proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.here")
    found = doctor_storage.proxies()
    assert found.ok and found.value == "https through http://***@proxy:3128, but for localhost,.here"


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "proxy:3128", "http://", "http://proxy:many"])
def test_a_proxy_that_not_every_client_takes_is_a_finding(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    found = doctor_storage.proxies()
    assert not found.ok and found.repair.startswith("write HTTPS_PROXY=http://HOST:PORT")


def test_a_source_that_was_named_is_tried(tmp_path: Path, tiny: TinyRun) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"replay_root: {local_url(tiny.made['collected_replay'].folder)}\n")
    found = doctor_storage.source(str(path))
    assert found.ok and "answers: Breakout/1 has" in found.value and "16 bytes of one were read" in found.value
    path.write_text(f"replay_root: file://{tmp_path}/nothing\n")
    found = doctor_storage.source(str(path))
    assert not found.ok and "Pong/1/replay_logs does not exist" in found.value and found.repair
    assert doctor_storage.source("local") == Finding(
        "source", True, "local: replay is collected here, no bucket is read"
    )


def test_a_bucket_for_artefacts_is_tried_by_writing(tmp_path: Path, gcs_bucket: EmulatedBucket) -> None:
    path, root = tmp_path / "mine.yaml", f"{gcs_bucket.root_url}/store"
    profile = {"artefact_root": root, "options": gcs_bucket.options()}
    path.write_text(json.dumps(profile))
    assert doctor_storage.artefacts(str(path)) == Finding("artefacts", True, f"{root} takes them")
    assert "anonymously" in doctor_storage.credentials(str(path)).value
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        profile["options"] = gcs_bucket.options(proxy.endpoint)
        path.write_text(json.dumps(profile))
        proxy.add(Fault("status", status=403, listings=True, times=9))
        refused = doctor_storage.artefacts(str(path))
    assert not refused.ok and "does not let this account store artefacts" in refused.value
    assert "allow it, or log in" in refused.repair
    assert "in no bucket" in doctor_storage.artefacts("local").value
