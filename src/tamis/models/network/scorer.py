"""Serves a network from its ONNX graph:

    load:   check the file's structure ──► optimise the graph ──► try two texts; both by a deadline
    score:  words ──► numbers ──► batches of similar length ──► padded arrays ──► graph ──► probabilities

The file's bytes are checked before ONNX Runtime reads them: it would read tensors that a graph keeps in
other files from the working directory, past the artifact's checksums, and run loops of any length. The
graphs that Tamis writes have neither: plain nodes and tensors only. The check decodes protocol buffers by
the field numbers of `onnx.proto3`, so that serving needs no `onnx` package; operators are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import msgspec
import numpy as np

from tamis.errors import ArtifactError, MissingExtraError
from tamis.models.network.tokenizer import Sequences, Tokenizer, batches_of_like_length, lengths_of, pad
from tamis.models.scorer import ModelFiles, Scorer, Scores

_BATCH_TEXTS = 64
"""More texts at once are not faster on one thread, and lengths differ more within a batch."""


LOAD_DEADLINE_SECONDS = 60.0
"""For a network's optimisation and its first two texts; the largest in the tests takes under a second."""

T = TypeVar("T")


class NetworkInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input that the graph expects; see `tamis.artifact.onnx_export.build.describe_input`.

    own_steps: the graph reads each text's length and stops there; otherwise it reads all of the padding
    margin:    zeros to leave beside the longest text of a batch; None pads to `max_tokens`
    """

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    own_steps: bool
    margin: Annotated[int, msgspec.Meta(ge=1)] | None = None
    padding: Literal["pre", "post"] = "pre"
    truncating: Literal["pre", "post"] = "pre"


class OnnxScorer(Scorer):
    """Scores with a network in ONNX Runtime. Its session may run in several threads at once."""

    is_heavy: ClassVar[bool] = True

    def __init__(self, session: Any, tokenizer: Tokenizer, expected: NetworkInput, *, n_classes: int):
        self._session = session
        self._tokenizer = tokenizer
        self._expected = expected
        self._n_classes = n_classes

    @classmethod
    def load(cls, files: ModelFiles, *, deadline_seconds: float = LOAD_DEADLINE_SECONDS) -> Self:
        """Read the graph and the vocabulary; raises ArtifactError if they do not fit the manifest.

        A graph that is not ready and tried out by the deadline is refused.
        """
        try:
            expected = msgspec.convert(files.settings, NetworkInput)
        except msgspec.ValidationError as wrong:
            raise ArtifactError(f"manifest.json does not describe the network's input ({wrong})") from None
        try:
            tokenizer = Tokenizer.from_json(files.read("tokenizer.json"))
        except ArtifactError as wrong:
            raise ArtifactError(f"tokenizer.json: {wrong}") from None
        model = files.read("model.onnx")
        check_structure(model)
        session = _by_deadline(lambda: _session(model), deadline_seconds)
        scorer = cls(session, tokenizer, expected, n_classes=files.n_classes)
        _by_deadline(scorer._try_out, deadline_seconds)
        return scorer

    def score(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities."""
        expected = self._expected
        sequences = self._tokenizer.sequences(
            texts, max_tokens=expected.max_tokens, truncating=expected.truncating
        )
        scores = np.zeros((len(texts), self._n_classes))
        for indices in batches_of_like_length(lengths_of(sequences), max_texts=_BATCH_TEXTS):
            scores[indices] = self._run([sequences[index] for index in indices])
        scores /= scores.sum(axis=1, keepdims=True)  # single precision leaves them off by 1e-7
        return scores

    def unknown_shares(self, texts: Sequence[str]) -> Scores:
        """Return [texts] the share of each text's words that the vocabulary lacks."""
        return self._tokenizer.unknown_shares(texts)

    def _run(self, sequences: Sequences) -> Scores:
        lengths, expected = lengths_of(sequences), self._expected
        longest = max(1, int(lengths.max()))  # a text without known words still needs one column
        if expected.own_steps:  # the graph stops at each text's length, so the zeros are not read
            feeds = {"tokens": pad(sequences, width=longest), "lengths": lengths}
        else:
            all_steps = expected.max_tokens
            width = all_steps if expected.margin is None else min(longest + expected.margin, all_steps)
            feeds = {"tokens": pad(sequences, width=width, left=expected.padding == "pre")}
        (probabilities,) = self._session.run(["probabilities"], feeds)
        # in double precision, in which rows can be made to sum to 1
        return np.asarray(probabilities, np.float64)

    def _try_out(self) -> None:
        """Run an empty text and one with the smallest and largest numbers: what does not fit fails here."""
        # an embedding with fewer rows than the vocabulary would fail at the first text with a rare word
        tokens = np.array([1, max(1, self._tokenizer.largest_number)], np.int32)
        try:
            probabilities = self._run([tokens[:0], tokens[: self._expected.max_tokens]])
        except _runtime_errors() as wrong:
            raise ArtifactError(f"model.onnx does not run ({_first_line(wrong)})") from None
        if probabilities.shape != (2, self._n_classes) or not np.isfinite(probabilities).all():
            raise ArtifactError(f"model.onnx gives no probabilities for {self._n_classes} labels")


def _by_deadline(work: Callable[[], T], seconds: float) -> T:
    """Return what `work` returns; raise ArtifactError if that takes longer.

    ONNX Runtime cannot be stopped inside an operator, nor while it optimises a graph, so the thread
    may run on. It is a daemon: the process can end.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as failed:  # noqa: BLE001 - raised again in the thread that waits
            outcome.set_exception(failed)

    Thread(target=run, name="tamis-onnx-self-test", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        raise ArtifactError(f"model.onnx was not ready within {seconds:g} seconds") from None


def _session(model: bytes) -> Any:
    try:
        import onnxruntime  # here, because linear models are served without it
    except ModuleNotFoundError:
        raise MissingExtraError("serving this model", "onnx") from None
    options = onnxruntime.SessionOptions()
    # one thread: the other cores are left to other calls, and sums in a fixed order give the same digits
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised, not printed
    try:
        # named, because a build for GPUs would otherwise ask for a choice
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as wrong:
        raise ArtifactError(f"model.onnx cannot be read ({_first_line(wrong)})") from None


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return the errors that ONNX Runtime raises, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    specific = (raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf)
    return (*specific, raised.NotImplemented, raised.RuntimeException, ValueError, RuntimeError)


def _first_line(error: Exception) -> str:
    # ONNX Runtime's messages may have many lines, with file names of its sources
    return str(error).partition("\n")[0][:200]


# wire types of protocol buffers; 3 and 4, groups, are not used by ONNX
_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5
# 64 bits in groups of 7: more is no varint
_MAX_VARINT_BYTES = 10
_ORT_FORMAT = slice(4, 8)  # where a model in ONNX Runtime's own format has its mark

# field numbers of onnx.proto3
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # of ModelProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # of GraphProto
_ATTRIBUTE = 5  # of NodeProto
_TENSOR, _TENSORS, _SUBGRAPH, _SUBGRAPHS, _SPARSE, _SPARSES = 5, 10, 6, 11, 22, 23  # of AttributeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto


class _Field(NamedTuple):
    number: int
    value: int
    message: memoryview


_NO_BYTES = memoryview(b"")


def check_structure(model: bytes) -> None:
    """Raise ArtifactError unless `model` is an ONNX graph of plain nodes with all of its tensors inside."""
    # ONNX Runtime would recognise its own format by this mark and load it past the check below
    if model[_ORT_FORMAT] == b"ORTM":
        raise ArtifactError("model.onnx is in ONNX Runtime's own format; only ONNX is read")
    try:
        graphs = [*_graphs(memoryview(model))]
    except (IndexError, ValueError):
        raise ArtifactError("model.onnx cannot be read (not a protocol buffer)") from None
    if not graphs:
        raise ArtifactError("model.onnx cannot be read (it has no graph)")


def _graphs(model: memoryview) -> Iterator[memoryview]:
    for field in _fields(model):
        if field.number in (_TRAINING, _FUNCTIONS):
            raise ArtifactError("model.onnx defines functions or training steps, which are not supported")
        if field.number == _GRAPH:
            _check_graph(field.message)
            yield field.message


def _check_graph(graph: memoryview) -> None:
    for field in _fields(graph):
        if field.number == _NODE:
            _check_node(field.message)
        elif field.number == _INITIALIZER:
            _check_tensor(field.message)
        elif field.number == _SPARSE_INITIALIZER:
            raise ArtifactError("model.onnx has sparse tensors, which are not supported")


def _check_node(node: memoryview) -> None:
    attributes = (field.message for field in _fields(node) if field.number == _ATTRIBUTE)
    for field in (field for attribute in attributes for field in _fields(attribute)):
        if field.number in (_SUBGRAPH, _SUBGRAPHS):
            raise ArtifactError("model.onnx has a loop or a branch, which is not supported")
        if field.number in (_SPARSE, _SPARSES):
            raise ArtifactError("model.onnx has sparse tensors, which are not supported")
        if field.number in (_TENSOR, _TENSORS):
            _check_tensor(field.message)


def _check_tensor(tensor: memoryview) -> None:
    for field in _fields(tensor):
        if field.number == _EXTERNAL_DATA or (field.number == _DATA_LOCATION and field.value):
            raise ArtifactError("model.onnx keeps tensors in another file; save them inside the graph")


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield the fields of a message; raise IndexError or ValueError if it is none."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        value, contents = 0, _NO_BYTES
        if wire_type == _VARINT:
            value, position = _varint(message, position)
        elif wire_type == _MESSAGE:
            size, position = _varint(message, position)
            contents = message[position : position + size]
            position += size
        elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if wire_type == _EIGHT_BYTES else 4
        else:
            raise ValueError("a wire type that ONNX does not use")
        if position > len(message):  # slices of a memoryview end early without an error
            raise ValueError("cut short")
        yield _Field(number, value, contents)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a number of more than 64 bits")
