"""What the Hub remembers of each request."""

import re
from dataclasses import dataclass


OWNED = r"(?P<repo>[^/]+/[^/]+?)"
NAMED = [
    re.compile(rf"/api/(?P<kind>models|datasets|spaces)/{OWNED}(?:/(?P<what>.+))?"),
    re.compile(rf"/(?P<what>lfs)/(?P<kind>models|datasets|spaces)/{OWNED}/(?P<rest>[0-9a-f]+)"),
    re.compile(rf"/(?P<kind>datasets|spaces)?/?{OWNED}\.git/info/(?P<what>lfs/(?:objects/)?(?:batch|verify))"),
    re.compile(rf"/(?P<kind>datasets|spaces)?/?{OWNED}/(?P<what>resolve/.+)"),
]
COMMITS = ("commit", "merge")  # the routes that make a commit


@dataclass
class Record:
    """One request as it arrived, and what became of it.

    Args:
        path: Unquoted.
        status: None while in work or unanswered.
        route: Name of the function that answers it, None where there is none.
        fault: The kind of the fault that struck it.
        order: How many requests came before it.
        commits: How many commits and merges over HTTP the Hub had done, in all repositories, when it arrived: 0 before
            the commit of a push that makes one.
    """

    method: str
    path: str
    query: str
    status: int | None = None
    route: str | None = None
    fault: str | None = None
    order: int = 0
    commits: int = 0

    @property
    def name(self) -> str:
        """Short and the same in every run: `POST datasets/alice/d commit main`. A commit's id, which holds the time,
        reads `SHA`; the sha256 of a large file keeps 8 digits."""
        path = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1", re.sub(r"\b[0-9a-f]{40}\b", "SHA", self.path))
        for pattern in NAMED:
            if match := pattern.fullmatch(path):
                parts = match.groupdict()
                repo = parts["repo"] if parts["kind"] in (None, "models") else f"{parts['kind']}/{parts['repo']}"
                what = (parts["what"] or "info").replace("lfs/objects/", "lfs/").replace("/", " ", 1)
                return " ".join(filter(None, (self.method, repo, what, parts.get("rest"))))
        return f"{self.method} {path.removeprefix('/api').removeprefix('/')}"
