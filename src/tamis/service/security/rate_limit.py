"""Rate limit: how many texts one caller may send. The counts are stored in `rate_table`.

The generic cell rate algorithm (GCRA) stores one time per caller: when everything sent so far would have been
sent at the even rate.

    now ├──── ahead ────┤                         each text adds one interval
        ├──────────────── burst ──────────┤       accepted while `ahead` stays within

A list is accepted as a whole or not at all. There are no counting windows, so twice the limit never passes at
the boundary of two.
"""

from __future__ import annotations

from typing import NamedTuple

from tamis.service.responses import Headers, Refused
from tamis.service.security.client_identity import Caller
from tamis.service.security.rate_table import RateTable, SlotKey

_NS_PER_SECOND = 1_000_000_000


class Charge(NamedTuple):
    """Texts that were counted for a caller: the headers of the response, and what a refund needs."""

    headers: Headers
    slot_key: SlotKey
    cost_ns: int
    over_at_ns: int


class RateLimiter:
    """Lets each caller send `burst` texts at once and `per_minute` a minute in the long run.

    Exact across all processes that share `table`. Headers follow the IETF's draft "RateLimit header fields
    for HTTP" (draft-ietf-httpapi-ratelimit-headers-10); a quota unit is one text.
    """

    def __init__(self, table: RateTable, *, per_minute: int, burst: int):
        self._table, self.burst = table, burst
        # rounded up: the limit is never exceeded by rounding
        self._interval_ns = -(-60 * _NS_PER_SECOND // per_minute)
        self._burst_ns = burst * self._interval_ns
        policy = b'"texts";q=%d;w=%d' % (burst, _seconds(self._burst_ns))
        self._policy = (b"ratelimit-policy", policy)

    def consume(self, caller: Caller, texts: int) -> Charge:
        """Count `texts` for the caller, or refuse with 429."""
        if texts > self.burst:  # no waiting would ever help, so it is 422 and has no Retry-After
            message = f"`texts` contains more than the {self.burst} texts that one caller may send at once"
            raise Refused("too_many_texts", message, field="texts", headers=[self._policy])
        slot_key = self._table.slot_key(caller.limited_as)
        cost_ns = texts * self._interval_ns
        ahead, wait, over_at = self._table.consume(slot_key, cost_ns, self._burst_ns)
        if wait:
            seconds = _seconds(wait)
            message = f"too many texts from one caller; try again in {seconds} s"
            headers = [(b"retry-after", b"%d" % seconds), *self._headers(ahead)]
            raise Refused("rate_limited", message, field="texts", headers=headers)
        return Charge(self._headers(ahead), slot_key, cost_ns, over_at)

    def refund(self, charge: Charge) -> None:
        """Undo the count of texts that got no prediction."""
        self._table.refund(charge.slot_key, charge.cost_ns, over_at_ns=charge.over_at_ns)

    def close(self) -> None:
        """Close the table."""
        self._table.close()

    def _headers(self, ahead_ns: int) -> Headers:
        remaining = (self._burst_ns - ahead_ns) // self._interval_ns
        return [self._policy, (b"ratelimit", b'"texts";r=%d;t=%d' % (remaining, _seconds(ahead_ns)))]


def _seconds(nanoseconds: int) -> int:
    # rounded up: a client that waits exactly as long as it was asked to is accepted
    return -(-nanoseconds // _NS_PER_SECOND)
