"""The sequences of operations that every store must survive, on real nodes; few, for each takes long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings

from tests.storage.test_against_model import CACHE_SECONDS, StoreMachine
from tests.support.keyspaces import PATIENT, truncate

pytestmark = pytest.mark.cassandra


def test_a_cluster_agrees_with_the_model_whatever_is_done(empty_keyspace: str, operator) -> None:
    cluster = replace(PATIENT.cluster, cache_consistency="LOCAL_QUORUM")

    class ClusterMachine(StoreMachine):
        url = empty_keyspace
        options = replace(PATIENT, cluster=cluster, cache_seconds=CACHE_SECONDS)

        def teardown(self) -> None:
            super().teardown()
            truncate(operator, "tamis")

    case = ClusterMachine.TestCase
    case.settings = settings(
        max_examples=5, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    case("runTest").debug()
