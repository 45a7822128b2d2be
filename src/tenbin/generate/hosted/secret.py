"""Secret: a key that no print, log or traceback shows, where it is got, and how it is struck from texts."""

import os
from typing import NoReturn
from urllib.parse import quote

from tenbin.config_hosted import HostedSection, HostedSource
from tenbin.errors import MissingExtra, ModelError, Problem, UserError

STRUCK = "[key]"
DEFAULT_VARIABLE = {"openai": "OPENAI_API_KEY", "azure": "AZURE_OPENAI_API_KEY"}
ENTRA_VARIABLE = "AZURE_OPENAI_AD_TOKEN"
SHORTEST = 8
"""Characters. Shorter texts are no keys, and striking them out would strike words."""


class Secret:
    """Holds a key; `reveal` is the only way to it."""

    __slots__ = ("_reveal",)

    def __init__(self, value: str) -> None:
        def reveal() -> str:  # a closure: no attribute holds the text, so no dump of attributes shows it
            return value

        self._reveal = reveal

    def reveal(self) -> str:
        """The key, for the request's header and nothing else."""
        return self._reveal()

    @property
    def sendable(self) -> bool:
        """Whether it can stand in a header."""
        value = self.reveal()
        return value.isascii() and value.isprintable() and " " not in value

    def strike(self, text: str) -> str:
        """The text without the key, as it is and as it stands in addresses."""
        value = self.reveal()
        if len(value) < SHORTEST:
            return text
        return text.replace(value, STRUCK).replace(quote(value, safe=""), STRUCK)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled")


def find_key(source: HostedSource, hosted: HostedSection, where: str) -> Secret | None:
    """The key of a model, from the environment or the keyring; None where the service needs none.

    Raises:
        ModelError: it is not there.
        MissingExtra: a keyring is named and the library is not installed.
    """
    if hosted.auth == "entra":
        token = _secret(os.environ.get(ENTRA_VARIABLE))
        return token and _sendable(token, f"the environment variable {ENTRA_VARIABLE}", where)
    if hosted.keyring is not None:
        return _from_keyring(hosted.keyring, where)
    variable = hosted.api_key_env or DEFAULT_VARIABLE.get(source.kind)
    if variable is None:
        return None
    secret = _secret(os.environ.get(variable))
    place = f"the environment variable {variable}"
    if secret is None:
        remedy = "set it to the key, or name another one in hosted.api_key_env or an entry in hosted.keyring"
        raise ModelError(Problem(where=where, found=f"{place} is not set", remedy=remedy))
    return _sendable(secret, place, where)


def _from_keyring(entry: str, where: str) -> Secret:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise missing(where, "keyring", 'pip install "tenbin[keyring]"') from None
    service, _, user = entry.rpartition("/")
    try:
        secret = _secret(keyring.get_password(service, user))
    except KeyringError as error:
        found = f"the keyring cannot be read: {type(error).__name__}"
        remedy = "unlock it, or use an environment variable (hosted.api_key_env)"
        raise ModelError(Problem(where=where, found=found, remedy=remedy)) from None
    if secret is None:
        remedy = f"store it: keyring set {service} {user}"
        raise ModelError(Problem(where=where, found=f"the keyring has no entry {entry}", remedy=remedy))
    return _sendable(secret, f"the keyring's entry {entry}", where)


def _secret(value: str | None) -> Secret | None:
    # Wrapped at once: a frame that raises an error must not hold the text itself.
    return Secret(value.strip()) if value and value.strip() else None


def _sendable(secret: Secret, place: str, where: str) -> Secret:
    """Refuse what cannot stand in a header, without showing it."""
    if not secret.sendable:
        remedy = "copy the key again: letters, digits and signs, no spaces, nothing full width"
        raise ModelError(Problem(where=where, found=f"{place} holds no key that can be sent", remedy=remedy))
    return secret


def missing(where: str, library: str, line: str) -> UserError:
    """That an optional library is not installed."""
    return MissingExtra(Problem(where=where, found=f"{library} is not installed", remedy=line))
