"""API keys: random ones, of which only hashes are kept, with scopes and budgets.

A key is 256 random bits, so nothing shorter than trying them all finds it from its hash, and a
slow hash such as argon2 would buy nothing: it protects passwords, which can be guessed. What it
would cost is real: tens of milliseconds and megabytes a request, for strangers' requests, too.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Key, Scope

PREFIX = "ak_"
MOST = 1.05  # of what the full tier alone would cost a key's texts, that they may cost
CREDIT = 5  # of the longest texts, by the full tier: what a few hard texts cost is no attack
_MINUTE = 60.0


def new_key() -> tuple[str, str]:
    """A new key, and the hash that is written into the settings."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hash_of(key)


def hash_of(key: str) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Bucket:
    """An amount a minute: full at first, and refilled evenly."""

    def __init__(self, size: float, clock: Callable[[], float]) -> None:
        self._size, self._clock = size, clock
        self._left, self._at = size, clock()

    def take(self, amount: float) -> float | None:
        """Take it; else the seconds until there will be as much.

        What is more than a minute's amount is taken from a full bucket, which owes the rest.
        """
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._at) * self._size / _MINUTE)
        self._at = now
        short = min(amount, self._size) - self._left
        if short <= 1e-9:
            self._left -= amount
            return None
        return short * _MINUTE / self._size

    def give_back(self, amount: float) -> None:
        """Of what was taken, this was not needed."""
        self._left = min(self._size, self._left + amount)


class Account:
    """What a key's texts have cost, against what the full tier alone would have cost them.

    A text that no exit is sure of costs more than the full tier alone: others are asked before.
    Texts of a key that sends little else go to the full tier alone, until that has made up for it.
    So all its texts together cost no more than `MOST` times the full tier's, and once the credit.
    """

    def __init__(self) -> None:
        self._owed = -math.inf

    @property
    def spent(self) -> bool:
        """Whether the next texts have to be answered by the full tier alone."""
        return self._owed > 0.0

    def note(self, cost: float, full: float, longest: float) -> None:
        """So much was spent, where the full tier would have spent so much.

        Args:
            longest: what the full tier spends on the longest text.
        """
        self._owed = max(self._owed + cost - MOST * full, -CREDIT * longest)


def _bucket(size: float | None, clock: Callable[[], float]) -> Bucket | None:
    return None if size is None else Bucket(size, clock)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without keys everyone may do everything but administer."""

    name: str
    scopes: frozenset[str]
    requests: Bucket | None = None
    cost: Bucket | None = None
    account: Account = field(default_factory=Account)

    def may(self, scope: Scope) -> bool:
        """Whether it is one of the key's scopes."""
        return scope in self.scopes

    def spend_request(self) -> None:
        """One request of the key's budget.

        Raises:
            Refusal: it is spent.
        """
        wait = None if self.requests is None else self.requests.take(1.0)
        if wait is not None:
            raise Refusal(429, "the key's requests a minute are spent", wait)

    def spend_cost(self, cost: float) -> None:
        """So many expected milliseconds of the key's budget.

        Raises:
            Refusal: it is spent.
        """
        wait = None if self.cost is None else self.cost.take(cost)
        if wait is not None:
            raise Refusal(429, "the key's cost a minute is spent", wait)

    def refund_cost(self, cost: float) -> None:
        """What was not needed."""
        if self.cost is not None and cost > 0.0:
            self.cost.give_back(cost)


class Keyring:
    """The keys of the settings."""

    def __init__(self, keys: Sequence[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._callers = [
            (
                key.sha256.encode(),
                Caller(
                    key.name,
                    frozenset(key.scopes),
                    _bucket(key.requests_a_minute, clock),
                    _bucket(key.cost_a_minute, clock),
                ),
            )
            for key in keys
        ]
        self._anyone = Caller("", frozenset({"predict", "routing", "metrics"}))

    def caller(self, given: str | None, scope: Scope) -> Caller:
        """The caller with this key, if it may do this.

        Every hash is compared, each in constant time, so that the time tells nothing.

        Raises:
            Refusal: no key, a wrong one, or one without the scope.
        """
        if not self._callers:
            if scope in self._anyone.scopes:
                return self._anyone
            raise Refusal(403, f"needs a key with the scope {scope!r}, and there are no keys")
        if not given:
            raise Refusal(401, "a key is needed: Authorization: Bearer <key>")
        digest, found = hash_of(given).encode(), None
        for known, caller in self._callers:
            if hmac.compare_digest(digest, known):
                found = caller
        if found is None:
            raise Refusal(401, "the key is not known")
        if not found.may(scope):
            raise Refusal(403, f"the key lacks the scope {scope!r}")
        return found


def given_key(authorization: str | None, api_key: str | None) -> str | None:
    """The key in `Authorization: Bearer` or `X-API-Key`."""
    kind, _, rest = (authorization or "").partition(" ")
    if kind.lower() == "bearer" and rest.strip():
        return rest.strip()
    return api_key
