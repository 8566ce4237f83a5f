"""Who may do what: users, the organisations they write to, and their tokens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Account:
    """What a token stands for: a user, a role (`read` or `write`), and organisations where the user may write."""

    user: str
    role: str
    organisations: tuple[str, ...] = ()

    def may_write_to(self, namespace: str) -> bool:
        """Whether this token may change repositories of a user or an organisation."""
        return self.role == "write" and self.belongs_to(namespace)

    def belongs_to(self, namespace: str) -> bool:
        """Whether a namespace is the user or one of the user's organisations."""
        return namespace == self.user or namespace in self.organisations


ACCOUNTS = {
    "hf_alice_write": Account("alice", "write", ("lab",)),
    "hf_alice_read": Account("alice", "read", ("lab",)),
    "hf_bob_write": Account("bob", "write"),
}


def whoami(account: Account) -> dict:
    """The answer of whoami-v2."""
    return {
        "type": "user",
        "id": f"id-{account.user}",
        "name": account.user,
        "fullname": account.user.title(),
        "isPro": False,
        "orgs": [{"type": "org", "name": name, "roleInOrg": "write"} for name in account.organisations],
        "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": account.role}},
    }
