"""A trained model as a folder that needs nothing else to predict: `NAME/VERSION/`."""

from tamis.artifact.manifest import CARD_FILE, REPORT_FILE, DataFacts, Manifest, OperatingPoint
from tamis.artifact.registry import (
    find_models,
    history,
    list_versions,
    promoted_digest,
    remove_version,
    rollback,
    set_alias,
)
from tamis.artifact.version_folder import Artifact, find_version, open_artifact, read_aliases, reserve_version

__all__ = [
    "CARD_FILE",
    "REPORT_FILE",
    "Artifact",
    "DataFacts",
    "Manifest",
    "OperatingPoint",
    "find_models",
    "find_version",
    "history",
    "list_versions",
    "open_artifact",
    "promoted_digest",
    "read_aliases",
    "remove_version",
    "reserve_version",
    "rollback",
    "set_alias",
]
