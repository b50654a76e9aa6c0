"""Stores passwords as scrypt hashes (RFC 7914), each with its parameters and a random salt."""

from __future__ import annotations

import hashlib
import hmac
import secrets

COST, BLOCK, LANES = 2**14, 8, 5
"""16 MiB and some tenths of a second for each attempt, the minimum that OWASP recommends."""


def hash_password(password: str) -> str:
    """Returns the stored form of a password."""
    salt = secrets.token_bytes(16)
    return f"scrypt${COST}${BLOCK}${LANES}${salt.hex()}${_scrypt(password, salt, COST, BLOCK, LANES).hex()}"


def is_password(password: str, stored: str | None) -> bool:
    """Whether the password is the stored one. Without a stored one the check takes as long and fails."""
    _, cost, block, lanes, salt, expected = (stored or _NOBODY).split("$")
    found = _scrypt(password, bytes.fromhex(salt), int(cost), int(block), int(lanes))
    return hmac.compare_digest(found, bytes.fromhex(expected)) and stored is not None


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=lanes, maxmem=2**26, dklen=32)


_NOBODY = f"scrypt${COST}${BLOCK}${LANES}${'00' * 16}${'00' * 32}"
