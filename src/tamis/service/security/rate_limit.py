"""Rate limit: how many texts one caller may send. The counts are kept in `rate_table`.

The generic cell rate algorithm: for each caller one time, at which everything sent so far would
have been sent at the even rate. It may lie ahead of now by as much as the burst takes. Each text
moves it on by one interval; a list is accepted as a whole or not at all. No counting window begins
anew, so there is no moment at which twice the limit passes.
"""

from __future__ import annotations

from typing import NamedTuple

from tamis.service.responses import Headers, Refused
from tamis.service.security.client_identity import Caller
from tamis.service.security.rate_table import Place, RateTable

_NS_PER_SECOND = 1_000_000_000


class Charge(NamedTuple):
    """Texts that were counted for a caller: what the response's headers say, and what a refund needs."""

    headers: Headers
    place: Place
    cost_ns: int
    over_at_ns: int


class RateLimiter:
    """Lets each caller send `burst` texts at once and `per_minute` a minute in the long run.

    Exact for all processes that share `table`. Headers follow the IETF's draft "RateLimit header
    fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10); a quota unit is one text.
    """

    def __init__(self, table: RateTable, *, per_minute: int, burst: int):
        self._table, self.burst = table, burst
        self._interval_ns = -(-60 * _NS_PER_SECOND // per_minute)  # rounded up: never more than allowed
        self._burst_ns = burst * self._interval_ns
        policy = b'"texts";q=%d;w=%d' % (burst, _seconds(self._burst_ns))
        self._policy = (b"ratelimit-policy", policy)

    def take(self, caller: Caller, texts: int) -> Charge:
        """Count `texts` for the caller, or refuse with 429."""
        if texts > self.burst:
            message = f"`texts` holds more than the {self.burst} texts that one caller may send at once"
            raise Refused("too_many_texts", message, field="texts", headers=[self._policy])
        place = self._table.place_of(caller.limited_as)
        cost_ns = texts * self._interval_ns
        ahead, wait, over_at = self._table.take(place, cost_ns, self._burst_ns)
        if wait:
            raise self._refusal(ahead, wait)
        return Charge(self._headers(ahead), place, cost_ns, over_at)

    def refund(self, charge: Charge) -> None:
        """Undo the count of texts that got no prediction."""
        self._table.give_back(charge.place, charge.cost_ns, over_at_ns=charge.over_at_ns)

    def close(self) -> None:
        """Let go of the table."""
        self._table.close()

    def _headers(self, ahead_ns: int) -> Headers:
        left = (self._burst_ns - ahead_ns) // self._interval_ns
        return [self._policy, (b"ratelimit", b'"texts";r=%d;t=%d' % (left, _seconds(ahead_ns)))]

    def _refusal(self, ahead_ns: int, wait_ns: int) -> Refused:
        seconds = _seconds(wait_ns)
        return Refused(
            "rate_limited",
            f"too many texts from one caller; try again in {seconds} s",
            field="texts",
            headers=[(b"retry-after", b"%d" % seconds), *self._headers(ahead_ns)],
        )


def _seconds(nanoseconds: int) -> int:
    return -(-nanoseconds // _NS_PER_SECOND)
