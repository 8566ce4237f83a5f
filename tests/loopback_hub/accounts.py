"""Who may do what: users, their roles in organisations, and their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field


READ, WRITE = "repo.content.read", "repo.write"


@dataclass(frozen=True)
class Account:
    """What a token stands for.

    Args:
        user: Whose token it is.
        role: `read`, `write` or `fineGrained`.
        organisations: The user's role in each organisation: `read` or `write`.
        permissions: Of a fine-grained token alone: what it may do in which namespace, `READ` and `WRITE`.
    """

    user: str
    role: str
    organisations: Mapping[str, str] = field(default_factory=dict)
    permissions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def may_read_in(self, namespace: str) -> bool:
        """Whether this token sees the private repositories of a user or an organisation."""
        return (namespace == self.user or namespace in self.organisations) and self._grants(READ, namespace)

    def may_write_to(self, namespace: str) -> bool:
        """Whether this token may change repositories of a user or an organisation."""
        member = namespace == self.user or self.organisations.get(namespace) == "write"
        return member and self._grants(WRITE, namespace)

    def may_discuss_in(self, namespace: str) -> bool:
        """Whether this token may open discussions and pull requests on what it can read there."""
        return self.role == "write" or self.may_write_to(namespace)

    def _grants(self, permission: str, namespace: str) -> bool:
        if self.role == "fineGrained":
            return permission in self.permissions.get(namespace, ())
        return permission == READ or self.role == "write"


ORGANISATIONS = {"lab": "write", "museum": "read"}
ACCOUNTS = {
    "hf_alice_write": Account("alice", "write", ORGANISATIONS),
    "hf_alice_read": Account("alice", "read", ORGANISATIONS),
    "hf_alice_fine_write": Account("alice", "fineGrained", ORGANISATIONS, {"alice": (READ, WRITE)}),
    "hf_alice_fine_read": Account("alice", "fineGrained", ORGANISATIONS, {"alice": (READ,)}),
    "hf_bob_write": Account("bob", "write"),
    "hf_me_write": Account("me", "write", {"museum": "read"}),
    "hf_converter_write": Account("SFconvertbot", "write"),
}


def whoami(account: Account) -> dict:
    """The answer of whoami-v2. A fine-grained token lists all organisations, also those it has no permission in."""
    token = {"displayName": "test", "role": account.role}
    if account.role == "fineGrained":
        scoped = [
            {
                "entity": {"_id": f"id-{name}", "type": "user" if name == account.user else "org", "name": name},
                "permissions": list(permissions),
            }
            for name, permissions in account.permissions.items()
        ]
        token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    return {
        "type": "user",
        "id": f"id-{account.user}",
        "name": account.user,
        "fullname": account.user.title(),
        "isPro": False,
        "orgs": [{"type": "org", "name": name, "roleInOrg": role} for name, role in account.organisations.items()],
        "auth": {"type": "access_token", "accessToken": token},
    }
