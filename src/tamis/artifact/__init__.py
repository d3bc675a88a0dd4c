"""A trained model as a folder that needs nothing else to predict: `NAME/VERSION/`."""

from tamis.artifact.load import (
    Artifact,
    find_version,
    list_versions,
    open_artifact,
    remove_version,
    set_alias,
)
from tamis.artifact.manifest import CARD_FILE, REPORT_FILE, DataFacts, Manifest, OperatingPoint
from tamis.artifact.save import reserve_version

__all__ = [
    "CARD_FILE",
    "REPORT_FILE",
    "Artifact",
    "DataFacts",
    "Manifest",
    "OperatingPoint",
    "find_version",
    "list_versions",
    "open_artifact",
    "remove_version",
    "reserve_version",
    "set_alias",
]
