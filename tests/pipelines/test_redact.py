"""Secrets show in no message, whoever wrote it; what is no secret stays as it is; an error of ours is one line."""

import logging

import pytest

from pipelines.errors import UsageError, WorldlineError, unforeseen
from pipelines.progress import say
from pipelines.redact import one_line, redact, redact_logs, remember

TOKEN = "ya29.hush/hush+hush"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Bad token {TOKEN}", "Bad token ${TOKEN}"),
        ("url: /info?access_token=ya29.hush%2Fhush%2Bhush (x)", "url: /info?access_token=${TOKEN} (x)"),
        ("http://me:hush@host/x and https://hush@host/x", "http://***@host/x and https://***@host/x"),
        ("redis://me:hu@sh@host:6379", "redis://***@host:6379"),
        ("s3://b/x?X-Amz-Credential=hush&X-Amz-Signature=hush", "s3://b/x?X-Amz-Credential=***&X-Amz-Signature=***"),
        ("https://a.blob/c?se=2026&sig=hush&sp=r", "https://a.blob/c?se=2026&sig=***&sp=r"),
        ("{'refresh_token': 'hush', 'client_id': 'me'}", "{'refresh_token': '***', 'client_id': 'me'}"),
        (r'{"private_key": "-----BEGIN KEY-----\nhush\n-----END KEY-----\n"}', '{"private_key": "***"}'),
        ("Authorization: Bearer hush.hush", "Authorization: Bearer ***"),
        ("AWS4-HMAC-SHA256 Credential=hush/x, Signature=hush", "AWS4-HMAC-SHA256 ***"),
        ("https://u@h/api?api_key=hush", "https://***@h/api?api_key=***"),
        ("postgresql+psycopg2://me:hush@host/db refuses", "postgresql+psycopg2://***@host/db refuses"),
    ],
)
def test_secrets_are_hidden(said: str, shown: str) -> None:
    remember(TOKEN, "token", "${TOKEN}")
    assert one_line(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "gs://atari-replay-datasets/dqn/Pong/1 does not exist: check the bucket URL",
        "abfs://container@account.dfs.core.windows.net/dqn cannot be read",  # the container is no password
        "Storage profile 'p': replay_root holds a password or a signature: take it out of the URL, use options",
        "options.access_token needs the variable ACCESS_TOKEN: export ACCESS_TOKEN=...",
        "tokens/Pong: made in 3.0 s (12 kB; 2,000 tokens)",
        "the key of segment 3 is 7",
        "/data/my  replays/x@y:z cannot be read",
    ],
)
def test_what_is_no_secret_stays(said: str) -> None:
    assert one_line(said) == said


def test_short_values_and_paths_are_no_secrets() -> None:
    remember("abc", "token", "${A}")
    remember("eu-west", "region", "${B}")
    remember("/home/me/certificates", "certificate", "${C}")
    assert redact("abc of eu-west in /home/me/certificates/x") == "abc of eu-west in /home/me/certificates/x"


def test_one_value_may_hold_another() -> None:
    remember("hush-hush", "secret", "${LONG}")
    remember("hush", "secret", "${SHORT}")
    assert redact("hush and hush-hush") == "${SHORT} and ${LONG}"


def test_variables_that_sound_like_secrets_are_hidden_and_paths_of_keys_are_not(monkeypatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "0123456789")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    assert redact("log in with 0123456789: /home/me/key.json") == "log in with ${SOME_API_KEY}: /home/me/key.json"


def test_every_error_of_ours_is_one_line_without_secrets() -> None:
    remember(TOKEN, "token", "${TOKEN}")
    for kind in (WorldlineError, UsageError):
        assert str(kind(f"no\n  {TOKEN}\r\nhere ")) == "no ${TOKEN} here"
    assert unforeseen(RuntimeError(f"two\nlines, {TOKEN}")).startswith("RuntimeError: two lines, ${TOKEN} - a fault of")


def test_progress_shows_no_secret_and_takes_no_bracket_for_a_style(monkeypatch, capsys) -> None:
    remember(TOKEN, "token", "${TOKEN}")
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    say(f"[/tmp] {TOKEN} [red]:smile:")
    assert capsys.readouterr().err == "[/tmp] ${TOKEN} [red]:smile:\n"


def test_logs_of_other_libraries_show_no_secret(monkeypatch, caplog) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
    remember(TOKEN, "token", "${TOKEN}")
    redact_logs()
    redact_logs()
    log = logging.getLogger("of.another.library")
    try:
        raise ValueError(TOKEN)
    except ValueError:
        log.exception("retrying %s", f"/info?access_token={TOKEN}")
    log.warning("%d of %s", 3, "4")
    assert TOKEN not in caplog.text and "ValueError: ${TOKEN}" in caplog.text
    assert [record.getMessage() for record in caplog.records] == ["retrying /info?access_token=${TOKEN}", "3 of 4"]
    assert caplog.records[1].args == (3, "4")
