"""The sources of settings, the parsing of their text, and the errors for invalid ones.

Independent of single settings.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from tamis.errors import SettingsError

PREFIX = "TAMIS_"

_OTHER_VARIABLES = frozenset({"TAMIS_SHARED", "TAMIS_COMPILED", "TAMIS_FUZZ_CASES", "TAMIS_KILLS"})
"""Names of the project's own build and tests, which may be set where a service is started too."""


def _whole_number(value: Any) -> Any:
    # int() also takes 1_000, +5, blanks and digits of other scripts; 19 digits fit 64 bits
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) < 20):
        raise ValueError("not digits")
    return value


def _seconds(value: Any) -> Any:
    # float() also takes nan, inf and 1e9
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        raise ValueError("not a decimal number")
    return value


def _required(value: str) -> str:
    if not value:
        raise ValueError("must not be empty; leave it out for the default")
    return value


# an empty variable is a switch that is off, as in shells
Switch = Annotated[bool, BeforeValidator(lambda value: False if value == "" else value)]
Count = Annotated[int, BeforeValidator(_whole_number)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Ratio = Annotated[float, BeforeValidator(_seconds)]
RequiredText = Annotated[str, AfterValidator(_required)]
Consistency = Literal["LOCAL_QUORUM", "LOCAL_ONE", "QUORUM", "ONE", "TWO", "THREE", "EACH_QUORUM", "ALL"]


def check_base_url(value: str) -> str:
    """Return `value` if it is empty or the address of an HTTP service."""
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", value):
        raise ValueError("must be an address such as http://127.0.0.1:4318")
    return value


def check_dialects(value: str) -> str:
    """Return `value` if it lists names of dialects, or is all or none."""
    names = {entry.strip() for entry in value.split(",")}
    if value not in ("all", "none") and not names <= {"v2", "v1", "tei", "hf", "mlflow", "openai"}:
        raise ValueError("must be all, none, or a list of v2, v1, tei, hf, mlflow and openai")
    return value


def check_origins(value: str) -> str:
    """Return `value` if it lists origins as browsers send them; `*` is any."""
    for entry in filter(None, (entry.strip() for entry in value.split(","))):
        if entry != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]_-]+", entry):
            raise ValueError("must list origins such as https://app.example.org, without a path, or be *")
    return value


def check_root_path(value: str) -> str:
    """Return `value` if it is empty or a path that begins with a slash and does not end with one."""
    if value and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError("must be a path such as /spam, without a slash at its end")
    return value


def check_host_names(value: str) -> str:
    """Return `value` if it is a list of names as the header `host` has them, without ports; `*` is any."""
    for entry in filter(None, (entry.strip() for entry in value.split(","))):
        if entry != "*" and not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", entry):
            raise ValueError(
                "must list host names without ports, such as classify.example.org,127.0.0.1,[::1], "
                "or be * for any"
            )
    return value


def check_proxies(value: str) -> str:
    """Return `value` if it lists addresses and networks; a network of all addresses is refused."""
    for entry in filter(None, (entry.strip() for entry in value.split(","))):
        try:
            is_proxy = entry == "unix" or ip_network(entry).prefixlen > 0
        except ValueError:
            is_proxy = False
        if not is_proxy:
            raise ValueError(
                "must list your own proxies, such as 127.0.0.1,10.0.0.0/8,unix (with * every caller could "
                "claim any address)"
            )
    return value


@dataclass(frozen=True, slots=True)
class FoundValue:
    """The text of one setting and where it was found: `TAMIS_PORT` or `TAMIS_PORT (in .env)`."""

    text: str
    origin: str


class EnvironmentSource(PydanticBaseSettingsSource):
    """The values of an environment and a `.env` file, with the name and origin of each.

    Raises SettingsError for a `TAMIS_` name that is no setting: ignored, a misspelt
    `TAMIS_REQUIRE_KEY=true` would serve without keys.
    """

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str], dotenv: Path | None):
        super().__init__(settings_cls)
        # the environment first: it overrides the file
        self._sources = [(environ, ""), (_read_dotenv(dotenv), f" (in {dotenv})")]
        fields = settings_cls.model_fields
        for source, origin in self._sources:
            _require_known(fields, source, origin)
        found = {name: self._find(variables(name, field)) for name, field in fields.items()}
        self.found = {name: one for name, one in found.items() if one is not None}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the text of a field, its name, and that the text is not JSON."""
        one = self.found.get(field_name)
        return None if one is None else one.text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the texts of the fields that are set."""
        return {name: one.text.strip() for name, one in self.found.items()}

    def deprecations(self) -> list[str]:
        """Return a line for each setting of an older version that is set: what to use instead."""
        return [
            f"{one.origin} is a setting of an older version and still works; use instead: {instead}"
            for name, one in self.found.items()
            if (instead := extra(self.settings_cls.model_fields[name])["instead"])
        ]

    def _find(self, names: list[str]) -> FoundValue | None:
        for source, origin in self._sources:
            for name in names:
                if name in source:
                    return FoundValue(source[name], f"{name}{origin}")
        return None


def extra(field: FieldInfo) -> dict[str, Any]:
    """Return the metadata of a setting: `workshop`, `secret` and `instead`."""
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra


def variables(name: str, field: FieldInfo) -> list[str]:
    """Return the names of a setting's environment variable; the first one wins."""
    workshop = extra(field)["workshop"]
    return [
        f"{PREFIX}{name.upper()}",
        *([name.upper()] if workshop else []),
        *([workshop] if workshop not in (True, False) else []),
    ]


def describe_error(
    fields: Mapping[str, FieldInfo],
    invalid: ValidationError,
    values: Mapping[str, Any],
    origins: Mapping[str, str],
) -> str:
    """Return one line: the variable, what its value must be, and the value unless it is secret."""
    # one at a time: the first is mended, then the next is shown
    error = invalid.errors(include_url=False)[0]
    name = str(error["loc"][0])
    origin, value, field = origins.get(name, name), values[name], fields[name]
    try:
        str(value).encode()
    except UnicodeEncodeError:  # the environment may hold bytes that are no text
        return f"{origin} is not UTF-8"
    return f"{origin} {_requirement(field, error)}" + ("" if extra(field)["secret"] else f", not {value!r}")


def _requirement(field: FieldInfo, error: Mapping[str, Any]) -> str:
    if field.annotation is bool:
        return "must be true or false"
    if field.annotation in (int, float):
        first = next(bound.ge for bound in field.metadata if hasattr(bound, "ge"))
        last = next(bound.le for bound in field.metadata if hasattr(bound, "le"))
        if field.annotation is int:
            return f"must be a whole number from {first} to {last}"
        return f"must be a number of seconds from {first:g} to {last:g}"
    if error["type"] == "literal_error":
        return f"must be {error['ctx']['expected']}".replace("'", "")
    return str(error["msg"]).removeprefix("Value error, ")


def _require_known(fields: Mapping[str, FieldInfo], source: Mapping[str, str], origin: str) -> None:
    known = {variable for name, field in fields.items() for variable in variables(name, field)}
    for name in source:
        if name.startswith(PREFIX) and name not in known | _OTHER_VARIABLES:
            # without a cutoff: a wrong guess still shows what the names look like
            nearest = difflib.get_close_matches(name, sorted(known), 1, cutoff=0.0)
            raise SettingsError(f"{name}{origin} is not a setting; the nearest is {nearest[0]}")


def _read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        # utf-8-sig: editors on Windows write the mark
        lines = list(parse_stream(io.StringIO(path.read_text("utf-8-sig"))))
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8") from None
    for line in lines:
        if line.error:  # the line may hold a secret: report only its number
            raise SettingsError(f"{path}, line {line.original.line}: not NAME=value")
    return {line.key: line.value or "" for line in lines if line.key is not None}
