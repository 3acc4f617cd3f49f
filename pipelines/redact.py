"""Keeps secrets out of messages, and messages on one line. Errors, progress, logs and Dagster's events pass through it.

A value that a storage profile took from the environment is shown as the profile writes it, `${NAME}`; so is every other
variable whose name sounds like a secret. What looks like a secret in the text of others, such as a URL's signature,
becomes `***`.
"""

import logging
import os
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

SECRET_NAME = re.compile(
    r"secret|token|passw|credential|authori[sz]ation|signature|cookie"
    r"|(api|access|account|private|connection)[_-]?(key|string)|^key$",
    re.I,
)

# Variables that say where a secret lies, not what it is.
PLACE_NAME = re.compile(r"_(FILE|PATH|DIR)$|^GOOGLE_APPLICATION_CREDENTIALS$", re.I)

SHORTEST = 4  # characters of a value under a secret's name

SHORTEST_OTHER = 8

HIDDEN = "***"

_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*KEY-----.*?(?:-----END [A-Z ]*KEY-----|$)", re.S), HIDDEN),
    (re.compile(r"(https?://)[^\s/'\"]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(\b\w+://)[^\s/:@'\"]*:[^\s/'\"]*@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(AWS4-HMAC-SHA256 )(?:\w+=[^\s,'\"]+,?\s*)+"), rf"\1{HIDDEN}"),
    (re.compile(r"(authori[sz]ation['\"]?\s*[:=]\s*['\"]?(?:[\w-]+ )?)[^\s'\",]+", re.I), rf"\1{HIDDEN}"),
    (re.compile(r"(\bBearer )[\w.~+/=-]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"([?&](?:token|key|sig|signature)=)(?!\$\{)[^\s&'\"]+", re.I), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"((?:(?:access|refresh|id|session|security|bearer)[_-]?token|client[_-]?secret|passw(?:or)?d|awsaccesskeyid"
            r"|(?:api|access|account|private)[_-]?key(?:[_-]?id)?|x-(?:amz|goog)-(?:signature|credential))"
            r"(?:\s*=\s*['\"]?|['\"]\s*:\s*['\"]))(?!\$\{|\.\.\.)[^\s&'\",}]+",
            re.I,
        ),
        rf"\1{HIDDEN}",
    ),
)

_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")

_known: dict[str, str] = {}  # value -> what is shown in its place


def remember(value: str, name: str, shown: str) -> None:
    """Have `value`, which stands under `name`, shown as `shown` from now on.

    Too short a value is part of many words and stays; so does a path under a name that does not sound like a secret.
    """
    secret = bool(SECRET_NAME.search(name))
    if value in _known or len(value) < (SHORTEST if secret else SHORTEST_OTHER):
        return
    if secret or not value.startswith(("/", "~")):
        for form in {value, quote(value, safe=""), quote_plus(value), repr(value)[1:-1]}:
            _known[form] = shown


def redact(text: str) -> str:
    """`text` without the secrets that are known, and without what looks like one."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """`redact` for many texts: it knows the secrets of now, and looks through the environment once."""
    known = _of_environment() | _known
    longest_first = sorted(known, key=len, reverse=True)  # one value may hold another

    def redacted(text: str) -> str:
        for value in longest_first:
            text = text.replace(value, known[value])
        return without_patterns(text)

    return redacted


def without_patterns(text: str) -> str:
    """`text` without what looks like a secret: passwords and signatures of URLs, keys, headers that log in."""
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def one_line(text: object) -> str:
    """The text of an error, redacted, with its lines joined by spaces."""
    return _BREAKS.sub(" ", redact(str(text)).strip())


def redact_logs() -> None:
    """Have the logging of all libraries in this process redact what it writes. May be called again and again."""
    plain = logging.getLogRecordFactory()
    if getattr(plain, "redacts", False):
        return

    def made(*given: object, **named: object) -> logging.LogRecord:
        record = plain(*given, **named)
        said = record.getMessage()
        if (shown := redact(said)) != said:
            record.msg, record.args = shown, ()
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    made.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(made)


def _of_environment() -> dict[str, str]:
    return {
        value: f"${{{name}}}"
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_OTHER and SECRET_NAME.search(name) and not PLACE_NAME.search(name)
    }
