"""Tokens of the Hub: the one that a caller passes, else the one that is logged in. No message and no file has one."""

from huggingface_hub import get_token

from ..errors import InputError


def token_in_use(given: str | None = None) -> str | None:
    """The token of a request: the one that was given, else that of the login or of HF_TOKEN, else None.

    Raises `InputError`, which does not show it, for a text that can't be a token.
    """
    token = get_token() if given is None else given
    if token is None or (isinstance(token, str) and token and token.isascii() and token.isprintable()):
        return token
    if not isinstance(token, str) or not token:
        raise InputError("token must be a token of the Hub, as text, or None for the one that is logged in.")
    raise InputError(
        "The token holds characters that no token has, such as typographic quotes. Run `hf auth login` again, or "
        f"correct {'HF_TOKEN' if given is None else 'the token'}."
    )
