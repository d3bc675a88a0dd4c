"""Which callers a route is for. Declared where the route is; checked before its body is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """A key with one of `scopes` opens the route; without scopes any key does.

    An `is_open` route needs no key and looks at none; one that `is_optional` checks a key that is sent.
    """

    scopes: frozenset[str] = frozenset()
    is_open: bool = False
    is_optional: bool = False


PREDICT = Access(frozenset({"predict", "admin"}))
OWN_LOG = Access(frozenset({"predict", "log", "admin"}))
METRICS = Access(frozenset({"metrics", "admin"}))
ANY_KEY = Access()
OPTIONAL_KEY = Access(is_optional=True)
OPEN = Access(is_open=True)
