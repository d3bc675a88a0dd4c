"""The models of a service: names, versions and aliases, loaded, swapped and unloaded while it serves.

    serve models/spam@champion ─► Entry: folder, selector ─► current: ServedModel  (/prediction …)
                                       │                     loaded:  {version: ServedModel}
    aliases.json changes ─► refresh ───┘  checksums, promoted digest and self-test, then one assignment

Belongs to the event loop's thread; versions are read and tested in a thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tamis.artifact import list_versions
from tamis.artifact.manifest import ALIASES_FILE, file_stamp, versions_in
from tamis.errors import ArtifactError, InputError, ModelUnavailableError, UnknownModelError
from tamis.events import ModelLoaded, ModelRefused
from tamis.inference.classifier import Classifier
from tamis.inference.served_model import Entry, ModelLoader, ServedModel, entry_of
from tamis.inotify import FolderWatch

# without inotify nothing reports a change; a stat per model costs microseconds
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.5
"""Polling interval with inotify, which does not report what another machine changes in a shared folder."""

_log = logging.getLogger(__name__)


class ModelPool:
    """Finds the version that answers a request.

    `default` answers the routes without a model's name; read it once per request.
    """

    def __init__(self, loader: ModelLoader, *, max_bytes: int = 0):
        self._loader, self._max_bytes = loader, max_bytes
        self._emit = loader.events.emit
        self.entries: dict[str, Entry] = {}
        self.default: ServedModel
        self._loading = asyncio.Lock()

    def add(self, entry: Entry, model: ServedModel | None) -> None:
        """Add a model, loaded or not; the first one that is added is the default."""
        self.entries[entry.name] = entry
        if model is not None:
            self._serve(entry, model)

    def add_classifier(self, classifier: Classifier) -> None:
        """Add a loaded classifier, with the folder it came from."""
        path = classifier.path
        folder = path.parent if path is not None and path.name == classifier.version else None
        entry = Entry(classifier.name, folder, classifier.version)
        entry.read_aliases()
        self.add(entry, self._loader.serve(classifier))

    def open(self, reference: str, version: str = "", *, is_lazy: bool = False) -> None:
        """Add the model at `NAME`, `NAME@VERSION` or `NAME@ALIAS`, loading it unless `is_lazy`.

        With `version` that one is loaded now, whatever is the newest, unless an alias has moved since. Raises
        ArtifactError if the first model cannot be loaded; a later one is kept with its reason.
        """
        entry = entry_of(reference)
        if (same := self.entries.get(entry.name)) is not None:
            if same.folder != entry.folder:
                raise ArtifactError(f"two models are called {entry.name!r}; rename one of the folders")
            self._keep_beside(same, reference)
            return
        model = None
        if not (is_lazy and self.entries):
            try:
                model = self._load_first(entry, reference, version)
            except ArtifactError as broken:
                if not self.entries:
                    raise
                entry.errors["current"] = str(broken)
                _log.error("model not loaded", extra={"fields": {"model": entry.name, "reason": str(broken)}})
        self.add(entry, model)

    def _load_first(self, entry: Entry, reference: str, version: str) -> ServedModel:
        """Load `version`, or where the alias points now: a replaced worker may start much later."""
        pinned = f"{entry.folder}@{version}"
        if version and entry.selector not in entry.aliases:
            return self._loader.load(pinned)
        try:
            return self._loader.load(reference)
        except ArtifactError as broken:
            # what the alias names is broken: a replaced worker still serves the version that it served before
            if version in ("", str(entry.aliases.get(entry.selector))):
                raise
            self._refuse(entry, "current", broken)
            return self._loader.load(pinned)

    def _keep_beside(self, entry: Entry, reference: str) -> None:
        """Load another version of a model that is served already, and keep it loaded."""
        try:
            model = self._loader.load(reference)
        except ArtifactError as broken:
            self._refuse(entry, Path(reference).name, broken)
            return
        entry.pinned.add(model.version)
        self._keep(entry, model)

    async def resolve(
        self, name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> ServedModel:
        """Return the version that answers, loading it first if need be.

        Raises UnknownModelError for a name, version or alias that does not exist, ModelUnavailableError for
        a version that cannot be loaded.
        """
        if name is None:
            return self.default
        entry = self.entries.get(name)
        if entry is None:
            raise UnknownModelError("no model has this name; GET /models lists them", field="model")
        if alias is not None:
            if alias not in entry.aliases:
                raise UnknownModelError("the model has no such alias; see GET /models", field="alias")
            version = str(entry.aliases[alias])
        elif version is None:
            if entry.current is not None:
                return self._used(entry.current)
            version = "current"
        model = entry.loaded.get(version)
        return self._used(model) if model is not None else await self._load(entry, version)

    async def refresh(self, *, is_forced: bool = False) -> None:
        """Serve what the aliases point at now; a version that cannot be loaded leaves the old one serving.

        Looks only at models whose `aliases.json` has changed, unless `is_forced`, as by SIGHUP: then a model
        without a selector moves on to its newest version, too.
        """
        for entry in self.entries.values():
            if entry.folder is None:
                continue
            stamp = file_stamp(entry.folder / ALIASES_FILE)
            if stamp == entry.stamp and not is_forced:
                continue
            try:
                entry.read_aliases()
                await self._switch(entry)
            except (ArtifactError, OSError) as wrong:
                self._refuse(entry, "current", wrong)

    async def watch(self) -> None:
        """Refresh soon after an alias has moved, until cancelled."""
        watch = FolderWatch([entry.folder for entry in self.entries.values() if entry.folder is not None])
        try:
            while True:
                await watch.wait(_LOOK_SECONDS if watch.is_active else _POLL_SECONDS)
                try:
                    await self.refresh()
                except Exception as failed:  # noqa: BLE001 - outermost of this task: it must see the next change
                    _log.error("models not refreshed", extra={"fields": {"error": type(failed).__name__}})
        finally:
            watch.close()

    async def apply(self, action: str, name: str = "", version: str = "") -> None:
        """Do what another process asks for: `reload`, `load` or `unload`; log what cannot be done."""
        try:
            if action == "reload":
                await self.refresh(is_forced=True)
            elif action == "load":
                await self.load(name, version)
            else:
                await self.unload(name, version)
        except InputError as refused:
            fields = {"action": action, "model": name, "version": version, "reason": str(refused)}
            _log.error("models not changed", extra={"fields": fields})

    async def load(self, name: str, version: str) -> ServedModel:
        """Load a version and keep it, whatever the bound on memory."""
        model = await self.resolve(name, version)
        self.entries[name].pinned.add(version)
        return model

    async def unload(self, name: str, version: str) -> None:
        """Forget a loaded version; requests that it is answering are finished. The served one stays."""
        entry = self.entries.get(name)
        if entry is None or version not in await self.known_versions(entry):
            raise UnknownModelError("no such model or version; GET /models lists them", field="version")
        if entry.current is not None and entry.current.version == version:
            raise UnknownModelError("this version is being served; move its alias first", field="version")
        entry.pinned.discard(version)
        entry.loaded.pop(version, None)

    async def known_versions(self, entry: Entry) -> dict[str, list[str]]:
        """Return the versions of a model with their aliases, those in its folder and the loaded ones."""
        if entry.folder is None:
            return {version: [] for version in entry.loaded}
        found = await asyncio.to_thread(list_versions, entry.folder)
        return {str(version): aliases for version, aliases in found.items()}

    @property
    def loaded_models(self) -> list[ServedModel]:
        """Every loaded version."""
        return [model for entry in self.entries.values() for model in entry.loaded.values()]

    async def close(self) -> None:
        """Wait for the last batches."""
        for model in self.loaded_models:
            await model.batcher.close()

    async def _switch(self, entry: Entry) -> None:
        assert entry.folder is not None
        selector = entry.selector
        if selector in entry.aliases:
            version = str(entry.aliases[selector])
        elif selector:
            return  # a fixed version
        else:
            version = str(versions_in(entry.folder)[-1])
        if entry.current is not None and entry.current.version == version:
            entry.errors.pop("current", None)
            return
        # loaded and tested before anything changes: until then the old version answers
        model = entry.loaded.get(version) or await self._read(f"{entry.folder}@{version}")
        before = entry.current
        self._serve(entry, model)
        entry.errors.pop("current", None)
        if before is not None and before.version not in entry.pinned:
            entry.loaded.pop(before.version, None)
        fields = {"model": entry.name, "version": version, "before": before.version if before else None}
        _log.info("model switched", extra={"fields": fields})

    async def _load(self, entry: Entry, version: str) -> ServedModel:
        async with self._loading:  # one at a time: two requests for one version load it once
            if (model := entry.loaded.get(version)) is not None:
                return self._used(model)
            if version == "current" and entry.current is not None:
                return self._used(entry.current)
            if version == "current":
                reference = f"{entry.folder}@{entry.selector}" if entry.selector else f"{entry.folder}"
            elif version not in await self.known_versions(entry):
                raise UnknownModelError("the model has no such version; see GET /models", field="version")
            else:
                reference = f"{entry.folder}@{version}"
            try:
                model = await self._read(reference)
            except (ArtifactError, OSError) as broken:
                self._refuse(entry, version, broken)
                raise ModelUnavailableError(entry.name) from None
            if version == "current":
                self._serve(entry, model)
            else:
                self._keep(entry, model)
            entry.errors.pop(version, None)
            return self._used(model)

    async def _read(self, reference: str) -> ServedModel:
        return await asyncio.to_thread(self._loader.load, reference)

    def _serve(self, entry: Entry, model: ServedModel) -> None:
        self._keep(entry, model)
        entry.current = model
        # the first entry is the default, also if another one was loaded before it
        if not hasattr(self, "default") or next(iter(self.entries.values())) is entry:
            self.default = model

    def _keep(self, entry: Entry, model: ServedModel) -> None:
        entry.loaded[model.version] = model
        self._used(model)
        self._emit(ModelLoaded(entry.name, model.version))
        self._unload_beyond_bound(model)

    def _unload_beyond_bound(self, newest: ServedModel) -> None:
        """Forget the versions that were not used for longest; neither pinned ones nor the defaults."""
        if not self._max_bytes:
            return
        candidates = sorted(
            (model.last_used, entry.name, version)
            for entry in self.entries.values()
            for version, model in entry.loaded.items()
            if model not in (newest, self.default if hasattr(self, "default") else None)
            and version not in entry.pinned
        )
        total = sum(model.size_bytes for model in self.loaded_models)
        for _, name, version in candidates:
            if total <= self._max_bytes:
                return
            entry = self.entries[name]
            model = entry.loaded.pop(version)
            total -= model.size_bytes
            if entry.current is model:
                entry.current = None
            _log.info("model unloaded", extra={"fields": {"model": name, "version": version}})

    def _refuse(self, entry: Entry, version: str, why: Exception) -> None:
        entry.errors[version] = str(why)
        self._emit(ModelRefused(entry.name, version))
        fields = {"model": entry.name, "version": version, "reason": str(why)}
        _log.error("version refused", extra={"fields": fields})

    def _used(self, model: ServedModel) -> ServedModel:
        model.last_used = self._loader.clock.monotonic()
        return model
