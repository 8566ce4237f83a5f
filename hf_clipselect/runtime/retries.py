"""Steps that talk to the Hub, tried again when the connection or the server fails."""

import logging
import re
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import TypeVar

# The base of all errors of the HTTP library that huggingface_hub uses: httpx in 1.x, httpx2 in 2.x.
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import parse_ratelimit_headers

from ..errors import InputError, PushError
from .words import in_one_line


logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# huggingface_hub itself repeats uploads, but neither commits, tags and creations nor what it only reads.
_DELAYS_S = (1, 2, 4, 8)
# The Hub's rate limits are reset after five minutes at most.
_LONGEST_WAIT_S = 300
# 409 and 412: somebody else changed the repository in between; the step reads it anew.
_TRANSIENT = {408, 409, 412, 425, 429, 500, 502, 503, 504}


def with_retries(what: str, step: Callable[[], _Result]) -> _Result:
    """Run a step until it passes, at most five times, with growing pauses, and give what it returns.

    The step, which messages call `what`, looks at what is there first, so that running it again after a lost answer
    changes nothing twice. Raises `PushError` where the server refused for good, or the connection failed every time.
    """
    for delay in (*_DELAYS_S, None):
        try:
            return step()
        except (InputError, PushError):
            raise
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            cause = _cause(error)
            if cause is None and not isinstance(error, OSError):
                raise
            if cause is None or not _is_transient(cause):
                raise PushError(f"{what} failed: {describe(error)}") from None
            if delay is None:
                raise PushError(f"{what} failed {len(_DELAYS_S) + 1} times, at last with: {describe(error)}") from None
            wait = min(max(delay, _asked_to_wait(cause)), _LONGEST_WAIT_S)
            logger.info("%s: %s Trying again in %d s.", what, describe(error), wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def describe(error: BaseException) -> str:
    """An error of a client in a sentence, without the signed part of addresses, which is a secret."""
    cause = _cause(error)
    told = [error] if cause in (None, error) else [error, cause]
    return f"{': '.join(map(_in_words, told))}."


def _in_words(error: BaseException) -> str:
    status = _status(error)
    message = getattr(error, "server_message", None) or str(error)
    message = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", in_one_line(message))
    message = re.sub(r"Bearer \S+", "Bearer ...", message)[:400].rstrip(" .:")
    return f"HTTP {status}: {message}" if status else message or type(error).__name__


def _cause(error: BaseException) -> BaseException | None:
    """The answer of the server or the failure of the connection behind an error: the clients wrap them in others."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    answers = [link for link in chain if isinstance(link, HfHubHTTPError)]
    # JSONDecodeError: a proxy or a login page answered in place of the Hub.
    failures = [
        link for link in chain if isinstance(link, (HTTPError, ConnectionError, TimeoutError, JSONDecodeError))
    ]
    return next(iter([*answers, *reversed(failures)]), None)


def _is_transient(cause: BaseException) -> bool:
    if isinstance(cause, HfHubHTTPError):
        return _status(cause) in _TRANSIENT
    return not isinstance(cause, OfflineModeIsEnabled)


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _asked_to_wait(cause: BaseException) -> int:
    """Seconds after which the server wants to be asked again, 0 if it does not say."""
    if not isinstance(cause, HfHubHTTPError) or _status(cause) not in (429, 503):
        return 0
    limit, seconds = parse_ratelimit_headers(cause.response.headers), cause.response.headers.get("Retry-After", "")
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds + 1
    return int(seconds) if seconds.isdigit() else 0
