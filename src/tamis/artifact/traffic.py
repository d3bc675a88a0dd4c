"""The canary and the shadow of a model: `NAME/traffic.json`, which a running service follows.

A canary answers a share of the callers; a shadow scores the same texts and answers no request.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import msgspec

from tamis.artifact.manifest import write_json
from tamis.artifact.registry import locked, record_traffic
from tamis.artifact.version_folder import open_artifact
from tamis.errors import ArtifactError

TRAFFIC_FILE = "traffic.json"
# the plan is a few hundred bytes; another file under its name must not be read into memory
_MAX_BYTES = 65_536
_HASH_BYTES = 8

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A version that answers a share of the callers, until a bound is exceeded.

    `key` makes the choice: the same callers in every worker and after a restart, others for another canary.
    """

    version: int
    share: Share
    key: str
    max_errors: Share | None = None
    max_disagreement: Share | None = None

    def takes(self, caller: str) -> bool:
        """Return whether the canary answers this caller."""
        digest = blake2b(
            caller.encode("utf-8", "surrogatepass"), key=self.key.encode(), digest_size=_HASH_BYTES
        )
        position: int = int.from_bytes(digest.digest(), "big")
        # digests are uniform over 64 bits, so this is the share of the callers
        return position < self.share * float(1 << 8 * _HASH_BYTES)


class TrafficPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which versions beside the served one get texts; `stopped` is why the last canary was aborted."""

    canary: Canary | None = None
    shadow: int | None = None
    stopped: str = ""


def read_traffic(model_folder: Path) -> TrafficPlan:
    """Return a model's plan, an empty one without a file; raises ArtifactError if it is damaged."""
    path = model_folder / TRAFFIC_FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=TrafficPlan)
    except FileNotFoundError:
        return TrafficPlan()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as damaged:
        raise ArtifactError(f"{path}: {damaged}; remove the file or set the canary again") from None


def set_canary(
    reference: str, share: float, *, max_errors: float | None = None, max_disagreement: float | None = None
) -> Path:
    """Let the version that `reference` names answer a share of the callers; return its folder."""
    folder, version, digest = _version_of(reference)
    canary = Canary(
        version=version,
        share=share,
        # a new key for each canary, or the same callers would get every trial
        key=secrets.token_hex(16),
        max_errors=max_errors,
        max_disagreement=max_disagreement,
    )
    bounds = {"errors": max_errors, "disagreement": max_disagreement}
    limits = [f"{name}>{bound:.4g}" for name, bound in bounds.items() if bound is not None]
    reason = ", ".join([f"share {share:.4g}", *limits])
    with locked(folder):
        plan = msgspec.structs.replace(read_traffic(folder), canary=canary, stopped="")
        record_traffic(folder, "canary", version, actor="", reason=reason, digest=digest)
        write_json(folder / TRAFFIC_FILE, plan)
    return folder / str(version)


def set_shadow(reference: str) -> Path:
    """Let the version that `reference` names score what the model is asked; return its folder."""
    folder, version, digest = _version_of(reference)
    with locked(folder):
        plan = msgspec.structs.replace(read_traffic(folder), shadow=version)
        record_traffic(folder, "shadow", version, actor="", reason="", digest=digest)
        write_json(folder / TRAFFIC_FILE, plan)
    return folder / str(version)


def stop_shadow(model_folder: Path) -> None:
    """End the shadow of a model."""
    with locked(model_folder):
        plan = read_traffic(model_folder)
        if plan.shadow is not None:
            record_traffic(model_folder, "stop shadow", plan.shadow, actor="", reason="", digest="")
        write_json(model_folder / TRAFFIC_FILE, msgspec.structs.replace(plan, shadow=None))


def stop_canary(model_folder: Path, *, key: str = "", reason: str = "") -> None:
    """End the canary of a model; with `key` only the one that has it, not one that was set meanwhile."""
    with locked(model_folder):
        plan = read_traffic(model_folder)
        # asked for by a service: only the canary that it saw exceed a bound
        if not key or (plan.canary is not None and plan.canary.key == key):
            if plan.canary is not None:
                actor = "tamis serve" if key else ""
                record_traffic(
                    model_folder, "stop canary", plan.canary.version, actor=actor, reason=reason, digest=""
                )
            write_json(
                model_folder / TRAFFIC_FILE, msgspec.structs.replace(plan, canary=None, stopped=reason)
            )


def _version_of(reference: str) -> tuple[Path, int, str]:
    artifact = open_artifact(reference)
    if not artifact.path.name.isdigit():
        raise ArtifactError(f"{artifact.path} is not a version of a model; use NAME@VERSION")
    return artifact.path.parent, int(artifact.path.name), artifact.identity
