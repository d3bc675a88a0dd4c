"""Every dialect keeps the promises of its document for generated requests, with keys and without."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tamis.service.dialects.catalog import DIALECTS
from tamis.settings import Settings
from tests.support.fuzzing import CASES, asked, figures  # noqa: F401 - a fixture of this module
from tests.support.serving import make_app

_LIMITED = Settings(max_body_bytes=1 << 30, max_text_chars=50, max_texts=5)
_SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", make_app(_LIMITED)).include(
    tag=[dialect.title for dialect in DIALECTS]
)
# a schema cannot say that a shape fits its data; unknown fields and texts in other forms are tolerated
_EXCLUDED = [positive_data_acceptance, negative_data_rejection]


@_SCHEMA.parametrize()
@settings(max_examples=max(CASES // 8, 1), deadline=None, suppress_health_check=list(HealthCheck))
def test_every_dialect_keeps_its_promises(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=_EXCLUDED)
    asked[f"{case.method} {case.path}"] += 1
