"""The call log and the feedback log on a cluster: how their rows are written and counted.

Reading and deleting is the same for both: `log.py`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, final
from uuid import UUID

import msgspec
from cassandra.query import BatchStatement, BatchType

from tamis.errors import StoreError
from tamis.storage.base import PAIR_COLUMNS, CallLog, FeedbackLog, HourCount, LabelPairCount
from tamis.storage.cassandra.log import ClusterLog
from tamis.storage.cassandra.partitions import Partition
from tamis.storage.ids import as_uuid, from_uuid
from tamis.storage.query import LogQuery
from tamis.storage.rows import CallRecord, FeedbackRecord, check_calls, check_feedback, revised

# nodes warn about larger batches and refuse very large ones
_BATCH_ROWS = 50
# Cassandra refuses batches above 50 KiB by default; a character has up to 3 bytes, rarely 4
_BATCH_CHARS = 16_384
# a lightweight transaction that times out may have succeeded: repeating it shows
_CLAIM_ATTEMPTS = 3


@final
class ClusterCallLog(ClusterLog[CallRecord], CallLog):
    """The table `calls`."""

    async def append(self, calls: Sequence[CallRecord]) -> None:
        """Write each call into its partition, and the entries of the index."""
        check_calls(calls)
        by_partition: defaultdict[Partition, list[CallRecord]] = defaultdict(list)
        for call in calls:
            by_partition[self.partition(call.caller, call.id)].append(call)
        statements = [one for key, some in by_partition.items() for one in self._insertions(key, some)]
        await asyncio.gather(
            self.index.add((one.caller, one.hour) for one in by_partition), *map(self.execute, statements)
        )

    async def summary(self, query: LogQuery) -> list[HourCount]:
        """Count the rows: Cassandra's counters would count a call twice that is sent twice."""
        return await HourCount.sums(self.counts(query, ["label"]))

    def _insertions(self, partition: Partition, calls: Sequence[CallRecord]) -> Iterable[Any]:
        """Return the statements that write calls of one partition: in batches, as long as they are small."""
        bound = [self.bound_insert(partition, call) for call in calls]
        if len(bound) == 1:
            return bound
        batches: list[Any] = []
        room = 0
        for call, insertion in zip(calls, bound, strict=True):
            if not batches or len(batches[-1]) == _BATCH_ROWS or len(call.text) > room:
                # UNLOGGED: all rows are in one partition, so the batch is one mutation without a batch log
                level = self.statements.insert.consistency_level
                batches.append(BatchStatement(BatchType.UNLOGGED, consistency_level=level))
                batches[-1].is_idempotent = True
                room = _BATCH_CHARS
            batches[-1].add(insertion)
            room -= len(call.text)
        return batches


@final
class ClusterFeedbackLog(ClusterLog[FeedbackRecord], FeedbackLog):
    """The table `feedback`, and `feedback_subjects` for the id of a caller's row about a subject."""

    async def put(self, feedback: FeedbackRecord) -> FeedbackRecord:
        """Claim the subject, which settles the row's id, then write the row there."""
        check_feedback(feedback)
        id, is_new = await self._claim(feedback)
        partition = self.partition(feedback.caller, id)
        row = None if is_new else await self.find_in(partition, id)
        if row is not None and row.revision > feedback.revision:
            return row
        row = msgspec.structs.replace(feedback, id=id) if row is None else revised(row, feedback)
        await asyncio.gather(
            self.index.add([(row.caller, partition.hour)]), self.execute(self.bound_insert(partition, row))
        )
        return row

    async def _claim(self, feedback: FeedbackRecord) -> tuple[bytes, bool]:
        """Return the id of the row about a subject, and whether it was claimed just now."""
        connected = self._connection.current
        values = (feedback.caller, feedback.subject, as_uuid(feedback.id))
        bound = connected.statements.claim_subject.bind(values)
        for attempt in range(_CLAIM_ATTEMPTS):
            try:
                [row] = (await self.execute(bound)).rows
                break
            except StoreError:  # a rival's claim may leave the result unknown; claiming again settles it
                if attempt == _CLAIM_ATTEMPTS - 1:
                    raise
        if row[0]:
            return feedback.id, True
        return next(from_uuid(value) for value in row if isinstance(value, UUID)), False

    async def pair_counts(self, query: LogQuery) -> list[LabelPairCount]:
        """Count the rows."""
        return await LabelPairCount.sums(self.counts(query, PAIR_COLUMNS))

    async def removing(self, caller: str, rows: Sequence[Any]) -> None:
        """Delete the subjects, so that later feedback makes new rows."""
        delete = self._connection.current.statements.delete_subject
        await asyncio.gather(*(self.execute(delete.bind((caller, row.subject))) for row in rows))
