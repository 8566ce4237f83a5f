"""Which function answers which request."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from . import discussing, reading, writing
from .access import refusal
from .messages import Answer, HubError, Request
from .objects import StoreError
from .store import Store


API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
PAGE = r"/(?P<kind>(?:datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)"
REV = r"(?P<rev>refs/[^/]+/[^/]+|[^/]+)"
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
    (method, re.compile(path), function)
    for method, path, function in [
        ("GET", r"/api/whoami-v2", reading.get_whoami),
        ("GET", r"/api/agent-harnesses", reading.get_harnesses),
        ("POST", r"/api/validate-yaml", reading.validate_yaml),
        ("POST", r"/api/repos/create", writing.create_repo),
        ("DELETE", r"/api/repos/delete", writing.delete_repo),
        ("GET", API, reading.get_info),
        ("GET", rf"{API}/revision/{REV}", reading.get_info),
        ("GET", rf"{API}/auth-check(?P<write>/write)?", reading.get_auth_check),
        ("PUT", rf"{API}/settings", writing.change_settings),
        ("GET", rf"{API}/tree/{REV}(?:/(?P<path>.*))?", reading.get_tree),
        ("POST", rf"{API}/paths-info/{REV}", reading.get_paths_info),
        ("GET", rf"{API}/refs", reading.get_refs),
        ("GET", rf"{API}/commits/{REV}", reading.get_commits),
        ("POST", rf"{API}/preupload/{REV}", writing.preupload),
        ("POST", rf"{API}/commit/{REV}", writing.commit),
        ("POST", rf"{API}/branch/(?P<ref>[^/]+)", writing.create_branch),
        ("DELETE", rf"{API}/branch/(?P<ref>[^/]+)", writing.delete_branch),
        ("POST", rf"{API}/tag/{REV}", writing.create_tag),
        ("DELETE", rf"{API}/tag/{REV}", writing.delete_tag),
        ("GET", rf"{API}/discussions", discussing.list_discussions),
        ("POST", rf"{API}/discussions", discussing.create_discussion),
        ("GET", rf"{API}/discussions/(?P<num>\d+)", discussing.get_discussion),
        ("POST", rf"{API}/discussions/(?P<num>\d+)/status", discussing.change_status),
        ("POST", rf"{API}/discussions/(?P<num>\d+)/merge", discussing.merge),
        ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", writing.lfs_batch),
        ("POST", rf"{PAGE}\.git/info/lfs/verify", writing.lfs_verify),
        ("PUT", r"/lfs/(?P<name>(?:models|datasets|spaces)/[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})", writing.lfs_put),
        ("GET|HEAD", rf"{PAGE}/resolve/{REV}/(?P<path>.+)", reading.get_file),
        ("GET", r"/api/(?:models|datasets|spaces)/[^/]+(?:/revision/[^/]+)?", reading.get_file_of_short_id),
        ("GET|HEAD", r"/(?:(?:datasets|spaces)/)?[^/]+/resolve/[^/]+/.+", reading.get_file_of_short_id),
    ]
]


def find_route(method: str, path: str) -> tuple[Callable[..., Answer], dict[str, str]] | None:
    """The function that answers a request and the parts of its path, unquoted; None where there is none."""
    for methods, pattern, function in ROUTES:
        match = pattern.fullmatch(path)
        if match and re.fullmatch(methods, method):
            return function, {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
    return None


def answer(store: Store, request: Request) -> Answer:
    """The answer to a request; errors become answers."""
    try:
        route = find_route(request.method, request.path)
        if route is None:
            raise HubError(404, "Sorry, we can't find the page you are looking for.")
        return route[0](store, request, **route[1])
    except StoreError as error:
        return refusal(error).answer()
    except HubError as error:
        return error.answer()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return HubError(400, f"Malformed request: {error!r}").answer()
