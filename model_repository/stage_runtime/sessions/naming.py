"""What sessions are called: ids that only the server can make, and keys by which only their own caller finds them."""

import hashlib
import hmac
import secrets

from auralsam2_client.contract import MAX_OPENING_BYTES, OPENING

from ..engine.refusals import BadRequest

ID_BYTES = 16


class SessionNames:
    """The ids of one process, 128 bits in hexadecimal digits, which nobody can guess or make."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def draw(self, caller: str, opening: bytes | None) -> str:
        """Make the id of a session that a caller opens.

        Args:
            opening: what the caller names the opening; the same opening again, because its answer was lost, has the
                same id. None is an opening that is not repeated.
        Raises: BadRequest for an opening that is too long.
        """
        if opening is None:
            return secrets.token_hex(ID_BYTES)
        if len(opening) > MAX_OPENING_BYTES:
            raise BadRequest(f"{OPENING} has {len(opening)} bytes; at most {MAX_OPENING_BYTES}. Send 32 random digits.")
        return hmac.digest(self._secret, _joined(caller, opening), "sha256")[:ID_BYTES].hex()


def key_of(caller: str, session_id: bytes) -> bytes:
    """Give what a session is kept under: a digest of both, so that to others the id leads nowhere, as a wrong one."""
    return hashlib.sha256(_joined(caller, session_id)).digest()


def _joined(caller: str, words: bytes) -> bytes:
    # The length first, so that no two pairs are one.
    name = caller.encode()
    return len(name).to_bytes(8, "big") + name + words
