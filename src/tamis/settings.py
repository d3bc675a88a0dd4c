"""Settings: reads the fields of `settings_fields.py` from the environment, and derives paths from them.

Every part of Tamis takes its values from here; this module imports none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from tamis.errors import SettingsError
from tamis.settings_fields import STORE_OPTIONS, SettingsFields
from tamis.settings_source import PREFIX, EnvironmentSource, describe_error


class Settings(SettingsFields):
    """The settings of a service. Creating one reads nothing; `from_environment` reads."""

    @property
    def model_reference(self) -> str:
        """The model to load: `models/spam`, `models/spam@2` or `models/spam@champion`."""
        if not self.model_version:
            return self.model_directory
        if "@" in Path(self.model_directory).name:
            raise SettingsError(
                f"{PREFIX}MODEL_VERSION is {self.model_version!r}, but {PREFIX}MODEL_DIRECTORY "
                f"({self.model_directory!r}) names a version already: set only one of them"
            )
        # the workshop's versions are v1, v2; Tamis counts 1, 2; other words are aliases
        version = re.sub(r"^[vV](?=\d+$)", "", self.model_version)
        return f"{self.model_directory}@{version}"

    @property
    def store_url(self) -> str:
        """The store to use; one of made-up answers is not kept unless it is named."""
        if self.store or self.mock_model_class:
            return self.store or "memory:"
        return f"sqlite:///{quote(str(self._in_state_directory('tamis.db')))}"

    @property
    def shown_store_url(self) -> str:
        """The store without user and password."""
        return re.sub(r"//[^/]*@", "//", self.store_url)

    @property
    def is_store_a_cluster(self) -> bool:
        """Whether the store is shared by many machines and may be away while this one works."""
        return self.store_url.startswith(("cassandra:", "astra:"))

    def with_keyspace(self, keyspace: str) -> Self:
        """Return the settings of another keyspace of the same cluster."""
        store = re.sub(r"^(cassandra://[^/]+/)[^?]*", lambda found: found[1] + keyspace, self.store)
        return self.model_copy(update={"store": store, "astra_db_keyspace": keyspace})

    @property
    def spool_path(self) -> Path:
        """The file in which calls wait for a cluster."""
        return Path(self.spool_file) if self.spool_file else self._in_state_directory("spool.tamis")

    @property
    def keys_path(self) -> Path:
        """The file of the API keys."""
        return Path(self.keys_file) if self.keys_file else self._in_state_directory("keys.json")

    @property
    def rate_path(self) -> Path:
        """The file in which workers count callers' texts."""
        return Path(self.rate_file) if self.rate_file else self._in_state_directory("rates.tamis")

    @property
    def drift_directory(self) -> Path | None:
        """The folder of the drift counts; None is a folder `drift` beside the versions of each model."""
        return Path(self.state_directory) / "drift" if self.state_directory else None

    @property
    def traffic_directory(self) -> Path | None:
        """The folder of the counts of canaries; None is a folder `traffic` beside each model's versions."""
        return Path(self.state_directory) / "traffic" if self.state_directory else None

    def _in_state_directory(self, name: str) -> Path:
        return (Path(self.state_directory) if self.state_directory else self.model_folder) / name

    @property
    def model_folder(self) -> Path:
        """The model's own folder, which holds its versions, whichever of them is served."""
        folder = Path(self.model_directory)
        if not folder.exists():
            return folder.with_name(folder.name.partition("@")[0])
        return folder.resolve().parent if (folder / "manifest.json").exists() else folder

    def unused_old_files(self) -> list[tuple[Path, str]]:
        """Return files in the places of older versions of Tamis, and the setting that uses each.

        They were in the model's folder's folder, where models shared them. One is listed if the file in the
        model's folder, which is used now, does not exist.
        """
        # its files were never anywhere else
        if self.state_directory:
            return []
        candidates = [
            (self.keys_path, "keys.json", bool(self.keys_file), f"{PREFIX}KEYS_FILE={{}}"),
            (self.spool_path, "spool.tamis", bool(self.spool_file), f"{PREFIX}SPOOL_FILE={{}}"),
        ]
        if not self.mock_model_class:
            used = self._in_state_directory("tamis.db")
            candidates.append((used, "tamis.db", bool(self.store), f"{PREFIX}STORE=sqlite:///{{}}"))
        return [
            (old, setting.format(quote(str(old)) if name == "tamis.db" else old))
            for used, name, is_set, setting in candidates
            if not is_set and (old := self.model_folder.parent / name).exists() and not used.exists()
        ]

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the arguments only; `from_environment` reads the environment."""
        # otherwise every Settings() in a test or program would read the environment of its process
        return (init_settings,)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], dotenv_path: Path | None = None) -> Self:
        """Read the settings: `environ` over the file at `dotenv_path`, if it exists, over the defaults.

        Raises SettingsError that names the variable, also for a name that is no setting.
        """
        source = EnvironmentSource(cls, environ, dotenv_path)
        return cls._validated(source(), {name: one.origin for name, one in source.found.items()})

    def with_values(self, **values: Any) -> Self:
        """Return these settings with other values; options in the store's URL set fields, too."""
        # only what was set: a default must not count as a choice
        given = self.model_dump(exclude_unset=True) | values
        return self._validated(given, {"store": "--store"})

    @classmethod
    def _validated(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Self:
        values, origins = dict(values), dict(origins)
        url, options = _split_store_url(str(values.get("store", "")))
        if options:
            values["store"] = url
        for option, value in options.items():
            field = STORE_OPTIONS[option]
            values[field], origins[field] = value, f"the option `{option}` of {origins.get('store', 'store')}"
        try:
            return cls(**values)
        except ValidationError as invalid:
            raise SettingsError(describe_error(cls.model_fields, invalid, values, origins)) from None


def _split_store_url(url: str) -> tuple[str, dict[str, str]]:
    """Take the options of `STORE_OPTIONS` out of a store URL's query."""
    base, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    # not parsed and built again: other options keep their spelling
    rest = "&".join(part for part in query.split("&") if part.partition("=")[0] not in STORE_OPTIONS)
    ours = {name: value for name, value in options.items() if name in STORE_OPTIONS}
    return (f"{base}?{rest}" if rest else base), ours
