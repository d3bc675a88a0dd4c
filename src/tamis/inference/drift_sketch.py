"""What one version has predicted lately, as counts in a small file that all workers share.

    texts ─► cells_of ─► add ─► the current block of each window, under the file's lock
                                 recent: 10 blocks of a tenth of `window` texts; long: 10 of `window` texts

A full block makes room for the oldest one, so the file never grows; a window is the last 9 to 10 blocks.
Holds counts only, never a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from tamis.artifact.profile import N_LENGTH_BINS, N_SHARE_BINS, length_bins, share_bins
from tamis.inference.shared_file import SharedFile

WINDOWS = ("recent", "long")
# a window moves by one block, so it holds its last 90 to 100 %
N_BLOCKS = 10
_MAGIC = b"tamis drift 1\n\0\0"
_STATE = np.dtype([("magic", "S16"), ("labels", "<u4"), ("texts", "<u4"), ("flags", "<u8"), ("at", "<u4", 2)])
_CONFIDENCE = slice(0, N_SHARE_BINS)
_LENGTH = slice(N_SHARE_BINS, N_SHARE_BINS + N_LENGTH_BINS)
_UNKNOWN = slice(N_SHARE_BINS + N_LENGTH_BINS, 2 * N_SHARE_BINS + N_LENGTH_BINS)
_CELLS = 2 * N_SHARE_BINS + N_LENGTH_BINS
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class WindowCounts:
    """The counts of one window by predicted label; `since` and `until` are nanoseconds since 1970.

    labels: [labels] texts; confidence, length, unknown: [labels, bins], see `TrainingProfile`
    """

    since: int
    until: int
    confidence: npt.NDArray[Any]
    length: npt.NDArray[Any]
    unknown: npt.NDArray[Any]

    @property
    def labels(self) -> npt.NDArray[Any]:
        """The texts of each label."""
        totals: npt.NDArray[Any] = self.length.sum(axis=1)
        return totals

    @property
    def texts(self) -> int:
        """The texts of the window."""
        return int(self.length.sum())


@dataclass(frozen=True)
class SketchCells:
    """The cells in which each of some texts counts; `unknown` is -1 for one that was not measured."""

    confidence: Ints
    length: Ints
    unknown: Ints

    def count(self, block_of: Ints, n_blocks: int, n_labels: int) -> npt.NDArray[np.int64]:
        """Return [blocks, labels, cells] the counts of the last texts, by each text's block."""
        last = slice(self.length.size - block_of.size, None)
        first_cell = block_of * (n_labels * _CELLS)
        unknown = self.unknown[last]
        is_measured = unknown >= 0
        cells = np.concatenate(
            [
                self.confidence[last] + first_cell,
                self.length[last] + first_cell,
                (unknown + first_cell)[is_measured],
            ]
        )
        # one pass over flat cells counts all three histograms of all blocks
        counts = np.bincount(cells, minlength=n_blocks * n_labels * _CELLS)
        return counts.reshape(n_blocks, n_labels, _CELLS)


def cells_of(labels: Ints, scores: npt.NDArray[np.float64], lengths: Ints, unknown: Any) -> SketchCells:
    """Return the cells of texts, by the [texts] index of the label, its probability, and characters.

    unknown: [texts] share of unknown features, NaN where it was not measured
    """
    rows = labels * _CELLS
    is_measured = ~np.isnan(unknown)
    shares = share_bins(np.where(is_measured, unknown, 0.0))
    return SketchCells(
        rows + share_bins(scores),
        rows + _LENGTH.start + length_bins(lengths),
        np.where(is_measured, rows + _UNKNOWN.start + shares, -1),
    )


@final
class DriftSketch:
    """The shared counts of one version; for one thread of this process at a time."""

    def __init__(self, path: Path, n_labels: int, *, window: int):
        self._n_labels, self._window = n_labels, window
        self._block_texts = (max(1, window // N_BLOCKS), window)
        self._block = np.dtype(
            [("since", "<u8"), ("until", "<u8"), ("texts", "<u4"), ("counts", "<u4", (n_labels, _CELLS))]
        )
        size = _STATE.itemsize + 2 * N_BLOCKS * self._block.itemsize
        self._file = SharedFile(path, size, subject="drift")

    def close(self) -> None:
        """Close the file; the counts stay in it."""
        self._file.close()

    def add(self, cells: SketchCells, now_ns: int) -> None:
        """Count texts."""
        if not cells.length.size:
            return
        with self._file.locked():
            state = self._state()
            for window, size in enumerate(self._block_texts):
                self._add_to_window(state, window, size, cells, now_ns)
            self._file.write(state.tobytes(), 0)

    def windows(self) -> Sequence[WindowCounts]:
        """Return the counts of each of `WINDOWS`."""
        with self._file.locked():
            self._state()
            blocks = np.frombuffer(
                self._file.read(_STATE.itemsize, 2 * N_BLOCKS * self._block.itemsize), self._block
            ).reshape(2, N_BLOCKS)
        return [self._merged([self._checked(block) for block in window]) for window in blocks]

    def swap_flags(self, flags: int) -> int:
        """Store which features are drifting, one bit each, and return what was stored before."""
        with self._file.locked():
            state = self._state()
            before = int(state["flags"])
            if flags != before:
                state["flags"] = flags
                self._file.write(state.tobytes(), 0)
        return before

    def _add_to_window(self, state: Any, window: int, size: int, cells: SketchCells, now_ns: int) -> None:
        """Count texts in the current block and in those that follow it, all at once."""
        n_texts = min(cells.length.size, N_BLOCKS * size)  # earlier ones would be overwritten
        index = int(state["at"][window]) % N_BLOCKS
        offset = _STATE.itemsize + window * N_BLOCKS * self._block.itemsize
        found = self._file.read(offset + index * self._block.itemsize, self._block.itemsize)
        current = self._checked(np.frombuffer(found, self._block)[0])
        # a damaged block may claim more texts than it can have
        filled = min(size, int(current["texts"]))
        block_of = (np.arange(n_texts) + filled) // size
        blocks = np.zeros(int(block_of[-1]) + 1, self._block)
        blocks[0] = current
        blocks["counts"] += cells.count(block_of, blocks.size, self._n_labels).astype(np.uint32)
        added = np.bincount(block_of, minlength=blocks.size).astype(np.uint32)
        blocks["texts"] += added
        blocks["since"] = np.where(blocks["since"] == 0, now_ns, blocks["since"])
        blocks["until"] = np.where(added, now_ns, blocks["until"])
        while blocks.size:  # the one after the last is the first, which is the oldest
            part = blocks[: N_BLOCKS - index]
            self._file.write(part.tobytes(), offset + index * self._block.itemsize)
            state["at"][window], index, blocks = index + part.size - 1, 0, blocks[part.size :]

    def _checked(self, block: Any) -> Any:
        """Return a copy of a block, an empty one if its counts cannot be those of its texts."""
        found, texts = block.copy(), int(block["texts"])
        totals = [int(found["counts"][:, part].sum()) for part in (_CONFIDENCE, _LENGTH, _UNKNOWN)]
        # a torn write of a killed process, or another file: its counts would be reported as drift
        if texts > self._window or totals[:2] != [texts, texts] or totals[2] > texts:
            return np.zeros((), self._block)[()]
        return found

    def _merged(self, blocks: Sequence[Any]) -> WindowCounts:
        counts = np.sum([block["counts"].astype(np.int64) for block in blocks], axis=0)
        filled = [block for block in blocks if block["texts"]]
        return WindowCounts(
            since=min((int(block["since"]) for block in filled), default=0),
            until=max((int(block["until"]) for block in filled), default=0),
            confidence=counts[:, _CONFIDENCE],
            length=counts[:, _LENGTH],
            unknown=counts[:, _UNKNOWN],
        )

    def _state(self) -> Any:
        """Return the header; a file of another shape, or a damaged one, begins anew."""
        state = np.frombuffer(self._file.read(0, _STATE.itemsize), _STATE)[0].copy()
        # numpy strips the zeros at the end of an S16
        expected = (_MAGIC.rstrip(b"\0"), self._n_labels, self._window)
        if (state["magic"], state["labels"], state["texts"]) != expected:
            # zeros first: blocks of another shape would be read as counts
            state = np.array((*expected, 0, (0, 0)), _STATE)[()]
            self._file.write(bytes(self._file.size), 0)
            self._file.write(state.tobytes(), 0)
        return state
