"""Where settings come from, what is refused, and that code, sample and documentation agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from tamis.errors import SettingsError
from tamis.service.security.proxies import TrustedProxies
from tamis.settings import STORE_OPTIONS, Settings
from tamis.settings_source import EnvironmentSource, extra, variables

ROOT = Path(__file__).parents[1]
CURRENT = {name: field for name, field in Settings.model_fields.items() if not extra(field)["instead"]}
SUPERSEDED = {name: field for name, field in Settings.model_fields.items() if extra(field)["instead"]}


def _dotenv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / ".env"
    path.write_bytes(text.encode())
    return path


def test_defaults_hold_when_nothing_is_set() -> None:
    assert Settings.from_environment({}) == Settings()


def test_environment_wins_over_dotenv_and_dotenv_over_defaults(tmp_path: Path) -> None:
    dotenv = _dotenv(tmp_path, "TAMIS_PORT=1\nTAMIS_HOST=::1\n")
    settings = Settings.from_environment({"TAMIS_PORT": "2"}, dotenv)
    assert (settings.port, settings.host, settings.max_texts) == (2, "::1", 1_000)


def test_environment_wins_over_dotenv_under_another_name(tmp_path: Path) -> None:
    dotenv = _dotenv(tmp_path, "TAMIS_API_NAME=from file\n")
    assert Settings.from_environment({"API_NAME": "from environment"}, dotenv).api_name == "from environment"


def test_prefixed_name_wins_when_both_are_set() -> None:
    assert Settings.from_environment({"API_NAME": "old", "TAMIS_API_NAME": "new"}).api_name == "new"


def test_a_missing_dotenv_is_no_error(tmp_path: Path) -> None:
    assert Settings.from_environment({}, tmp_path / ".env") == Settings()


def test_the_workshops_dotenv_works_as_it_is(tmp_path: Path) -> None:
    dotenv = _dotenv(
        tmp_path,
        """
        # as participants have it
        API_NAME="Spam Classifier"
        MODEL_VERSION="v1"
        MODEL_DIRECTORY="training/trained_model_v1"
        MOCK_MODEL_CLASS="1"
        ASTRA_DB_KEYSPACE="spamclassifier"
        ASTRA_DB_SECURE_BUNDLE_PATH="bundle.zip"
        ASTRA_DB_BUNDLE_PATH="bundle.zip"
        ASTRA_DB_APPLICATION_TOKEN="AstraCS:hunter2"
        ASTRA_DB_CLIENT_ID="id"
        ASTRA_DB_CLIENT_SECRET="hunter2"
        CQLENG_ALLOW_SCHEMA_MANAGEMENT="1"
        """,
    )
    settings = Settings.from_environment({}, dotenv)
    assert settings.api_name == "Spam Classifier"
    assert settings.model_reference == "training/trained_model_v1@1"
    assert settings.mock_model_class
    assert (settings.astra_db_keyspace, settings.astra_db_secure_bundle_path) == (
        "spamclassifier",
        "bundle.zip",
    )
    assert settings.astra_db_application_token == "AstraCS:hunter2"
    assert (settings.astra_db_client_id, settings.astra_db_client_secret) == ("id", "hunter2")
    assert "hunter2" not in repr(settings)


def test_the_bundles_shorter_name_works_alone() -> None:
    environ = {"ASTRA_DB_BUNDLE_PATH": "bundle.zip"}
    assert Settings.from_environment(environ).astra_db_secure_bundle_path == "bundle.zip"


def test_the_store_is_shown_without_user_and_password() -> None:
    settings = Settings(store="cassandra://me:hunter2@h1,h2/tamis?local_dc=dc1")
    assert "hunter2" not in repr(settings)
    assert settings.shown_store_url == "cassandra://h1,h2/tamis?local_dc=dc1"
    assert settings.is_store_a_cluster


@pytest.mark.parametrize(
    ("version", "reference"),
    [
        ("", "m/spam"),
        ("2", "m/spam@2"),
        ("v2", "m/spam@2"),
        ("V10", "m/spam@10"),
        ("champion", "m/spam@champion"),
    ],
)
def test_model_reference_joins_directory_and_version(version: str, reference: str) -> None:
    environ = {"MODEL_DIRECTORY": "m/spam", "MODEL_VERSION": version}
    assert Settings.from_environment(environ).model_reference == reference


def test_model_reference_is_refused_when_two_versions_are_named() -> None:
    settings = Settings(model_directory="m/spam@2", model_version="v1")
    with pytest.raises(SettingsError, match="TAMIS_MODEL_VERSION is 'v1', but TAMIS_MODEL_DIRECTORY"):
        _ = settings.model_reference
    assert Settings(model_directory="a@b/spam", model_version="1").model_reference == "a@b/spam@1"


@pytest.mark.parametrize("word", ["1", "true", "True", "yes", "on", " y "])
def test_mock_is_on_when_the_word_says_so(word: str) -> None:
    assert Settings.from_environment({"MOCK_MODEL_CLASS": word}).mock_model_class


@pytest.mark.parametrize("word", ["", "0", "false", "False", "no", "off"])
def test_mock_is_off_when_the_word_says_so(word: str) -> None:
    assert not Settings.from_environment({"MOCK_MODEL_CLASS": word}).mock_model_class


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAMIS_PORT", "http", "TAMIS_PORT must be a whole number from 0 to 65535, not 'http'"),
        ("TAMIS_PORT", "65536", "from 0 to 65535"),
        ("TAMIS_PORT", "-1", "from 0 to 65535"),
        ("TAMIS_PORT", "٣", "from 0 to 65535"),
        ("TAMIS_MAX_TEXTS", "0", "TAMIS_MAX_TEXTS must be a whole number from 1"),
        ("TAMIS_MAX_BODY_BYTES", "1" * 5_000, "TAMIS_MAX_BODY_BYTES must be a whole number"),
        ("MOCK_MODEL_CLASS", "perhaps", "MOCK_MODEL_CLASS must be true or false, not 'perhaps'"),
        ("API_NAME", "caf\udce9", "API_NAME is not UTF-8"),
        ("TAMIS_TRUSTED_PROXIES", "*", "TAMIS_TRUSTED_PROXIES must list your own proxies"),
        ("TAMIS_TRUSTED_PROXIES", "127.0.0.1,0.0.0.0/0", "must list your own proxies"),
        ("TAMIS_TRUSTED_PROXIES", "::/0", "every caller could claim any address"),
        ("TAMIS_TRUSTED_PROXIES", "10.0.0.1/8", "such as 127.0.0.1,10.0.0.0/8,unix"),
        ("TAMIS_TRUSTED_PROXIES", "localhost", "must list your own proxies"),
        ("TAMIS_TRUSTED_PROXIES", "10.0.0.1 10.0.0.2", "must list your own proxies"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({name: value})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_value_names_the_file_when_it_comes_from_one(tmp_path: Path) -> None:
    dotenv = _dotenv(tmp_path, "TAMIS_PORT=x\n")
    with pytest.raises(SettingsError, match=rf"TAMIS_PORT \(in {re.escape(str(dotenv))}\) must be"):
        Settings.from_environment({}, dotenv)


def test_dotenv_unreadable_line_is_named_by_number_only(tmp_path: Path) -> None:
    dotenv = _dotenv(tmp_path, "TAMIS_PORT=1\nASTRA TOKEN hunter2\n")
    with pytest.raises(SettingsError, match="line 2: not NAME=value") as refused:
        Settings.from_environment({}, dotenv)
    assert "hunter2" not in str(refused.value)


def test_a_dotenv_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"API_NAME=caf\xe9\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        Settings.from_environment({}, path)


@pytest.mark.parametrize(
    "text", ["\ufeffTAMIS_PORT=7\n", "TAMIS_PORT=7\r\n", "export TAMIS_PORT='7' # seven"]
)
def test_a_dotenv_is_read_as_editors_and_shells_write_it(tmp_path: Path, text: str) -> None:
    assert Settings.from_environment({}, _dotenv(tmp_path, text)).port == 7


def test_trusted_proxies_are_addresses_networks_or_unix_sockets() -> None:
    listed = "127.0.0.1, 10.0.0.0/8,::1, fd00::/8 ,unix,"
    assert Settings.from_environment({"TAMIS_TRUSTED_PROXIES": listed}).trusted_proxies == listed
    TrustedProxies(listed)


def test_default_files_are_in_the_models_own_folder(tmp_path: Path) -> None:
    settings = Settings(model_directory="m/spam@2")
    assert settings.store_url == "sqlite:///m/spam/tamis.db"
    assert (settings.keys_path, settings.rate_path) == (Path("m/spam/keys.json"), Path("m/spam/rates.tamis"))
    assert settings.spool_path == Path("m/spam/spool.tamis")
    settings = Settings(keys_file="/k", rate_file="/r")
    assert (settings.keys_path, settings.rate_path) == (Path("/k"), Path("/r"))
    version = tmp_path / "spam" / "1"
    version.mkdir(parents=True)
    (version / "manifest.json").touch()
    for reference in (version, tmp_path / "spam", f"{tmp_path}/spam@champion"):
        assert Settings(model_directory=str(reference)).keys_path == tmp_path / "spam" / "keys.json"
    assert Settings(model_directory="me@home/spam@2").keys_path == Path("me@home/spam/keys.json")


def test_old_files_beside_the_folder_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "spam"
    folder.mkdir()
    for name in ("tamis.db", "keys.json", "spool.tamis", "rates.tamis"):
        (tmp_path / name).touch()
    settings = Settings(model_directory=str(folder))
    assert dict(settings.unused_old_files()) == {
        tmp_path / "tamis.db": f"TAMIS_STORE=sqlite:///{tmp_path}/tamis.db",
        tmp_path / "keys.json": f"TAMIS_KEYS_FILE={tmp_path}/keys.json",
        tmp_path / "spool.tamis": f"TAMIS_SPOOL_FILE={tmp_path}/spool.tamis",
    }
    for name in ("tamis.db", "keys.json", "spool.tamis"):
        (folder / name).touch()
    assert settings.unused_old_files() == []


def test_settings_superseded_keep_working_and_say_so(tmp_path: Path) -> None:
    dotenv = _dotenv(tmp_path, "TAMIS_KEYS_FILE=/k\n")
    environ = {"TAMIS_STORE_DEADLINE_SECONDS": "3"}
    settings = Settings.from_environment(environ, dotenv)
    assert (settings.keys_path, settings.store_deadline_seconds) == (Path("/k"), 3.0)
    lines = EnvironmentSource(Settings, environ, dotenv).deprecations()
    assert lines == [
        "TAMIS_STORE_DEADLINE_SECONDS is a setting of an older version and still works; "
        "use instead: ?timeout=SECONDS in TAMIS_STORE",
        f"TAMIS_KEYS_FILE (in {dotenv}) is a setting of an older version and still works; "
        "use instead: TAMIS_STATE_DIRECTORY",
    ]


def test_settings_superseded_are_no_longer_documented() -> None:
    assert len(SUPERSEDED) >= 16
    sample = (ROOT / ".env.sample").read_text("utf-8")
    assert not [name for name in SUPERSEDED if f"TAMIS_{name.upper()}=" in sample]


def test_state_directory_holds_every_file(tmp_path: Path) -> None:
    settings = Settings(model_directory="m/spam", state_directory="/state")
    assert settings.store_url == "sqlite:////state/tamis.db"
    paths = (settings.keys_path, settings.rate_path, settings.spool_path)
    assert paths == (Path("/state/keys.json"), Path("/state/rates.tamis"), Path("/state/spool.tamis"))
    assert settings.unused_old_files() == []


def test_store_url_options_are_settings() -> None:
    query = "timeout=3&cache_timeout=1&log_consistency=ALL&cache_consistency=ONE&cache_rows=5"
    url = f"cassandra://h/tamis?local_dc=dc1&{query}&full_durability=true"
    settings = Settings.from_environment({"TAMIS_STORE": url})
    assert settings.store == "cassandra://h/tamis?local_dc=dc1"
    values = [getattr(settings, field) for field in STORE_OPTIONS.values()]
    assert values == [3.0, 1.0, "ALL", "ONE", True, 5]
    assert Settings().with_values(store=url) == settings


def test_store_url_option_invalid_is_named() -> None:
    with pytest.raises(SettingsError, match="option `timeout` of TAMIS_STORE must be a number of seconds"):
        Settings.from_environment({"TAMIS_STORE": "sqlite:///x.db?timeout=soon"})
    with pytest.raises(SettingsError, match="option `cache_rows` of --store must be a whole number"):
        Settings().with_values(store="sqlite:///x.db?cache_rows=0")


def test_sample_shows_every_setting_with_default_and_meaning() -> None:
    sample = (ROOT / ".env.sample").read_text("utf-8")
    assert re.findall(r"^# (.+)\n#(\w+)=(.*)$", sample, re.MULTILINE) == [
        (_meaning(name, field), variables(name, field)[0], _shown(field.default))
        for name, field in CURRENT.items()
    ]


def test_docs_show_every_setting_with_default_and_meaning() -> None:
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    rows = re.findall(r"^\| `(TAMIS_\w+)` \| (?:`(.*)`)? *\| (.+) \|$", page, re.MULTILINE)
    assert rows == [
        (variables(name, field)[0], _shown(field.default), _meaning(name, field))
        for name, field in CURRENT.items()
    ]


def test_env_sample_uncommented_changes_nothing(tmp_path: Path) -> None:
    sample = (ROOT / ".env.sample").read_text("utf-8")
    dotenv = _dotenv(tmp_path, re.sub(r"^#(TAMIS_)", r"\1", sample, flags=re.MULTILINE))
    assert Settings.from_environment({}, dotenv) == Settings()


def _meaning(name: str, field: FieldInfo) -> str:
    older = variables(name, field)[1:]
    return (field.description or "") + (f" (or {older[0]})" if older else "")


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)
