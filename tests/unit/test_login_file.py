"""The file that says who a process is to Kafka: what is taken, and each refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everlode.access.login import current, use
from everlode.cli.main import run
from everlode.errors import ConfigError
from everlode.settings.login import load_login
from everlode.stack.certificates import Pair, make_authority, make_pair

SECRET = "not-for-anybody"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ca = Pair.named(tmp_path, "ca")
    make_authority(ca, "test")
    make_pair(ca, Pair.named(tmp_path, "mine"), "mine")
    make_pair(ca, Pair.named(tmp_path, "old"), "old", days=-1)
    secret = tmp_path / "miner.secret"
    secret.touch(0o600)
    secret.write_text(SECRET + "\n")
    return tmp_path


def written(folder: Path, **fields: str) -> Path:
    file = folder / "miner.json"
    whole = {"user": "miner", "secret_file": "miner.secret", "ca_file": "ca.pem"} | fields
    file.write_text(json.dumps({name: value for name, value in whole.items() if value}))
    return file


def test_a_login_file_gives_librdkafka_user_secret_and_authority(folder: Path) -> None:
    login = load_login(written(folder))
    assert login.librdkafka() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "miner",
        "sasl.password": SECRET,
        "ssl.ca.location": str(folder / "ca.pem"),
    }


def test_a_certificate_alone_is_a_login(folder: Path) -> None:
    mine = {"user": "", "secret_file": "", "certificate_file": "mine.pem", "key_file": "mine.key"}
    assert load_login(written(folder, **mine)).librdkafka() == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(folder / "ca.pem"),
        "ssl.certificate.location": str(folder / "mine.pem"),
        "ssl.key.location": str(folder / "mine.key"),
    }


def test_a_login_never_shows_its_secret(folder: Path) -> None:
    login = load_login(written(folder))
    assert SECRET not in repr(login) + login.said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_secret_that_others_may_read_or_write_is_refused(folder: Path, mode: int) -> None:
    (folder / "miner.secret").chmod(mode)
    with pytest.raises(ConfigError, match=r"miner\.secret is open to others") as caught:
        load_login(written(folder))
    assert caught.value.code == "secret_open"
    assert "chmod 600" in caught.value.hint
    assert SECRET not in str(caught.value.as_dict())


def test_an_open_key_is_refused(folder: Path) -> None:
    (folder / "mine.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"mine\.key is open to others"):
        load_login(written(folder, certificate_file="mine.pem", key_file="mine.key"))


def test_an_expired_certificate_is_refused_with_its_day(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"old.pem has expired, on \d{4}-") as caught:
        load_login(written(folder, certificate_file="old.pem", key_file="old.key"))
    assert caught.value.code == "certificate_expired"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"secret_file": ""}, "user and secret_file go together"),
        ({"certificate_file": "mine.pem"}, "certificate_file and key_file go together"),
        ({"user": "", "secret_file": ""}, "either user, or certificate_file"),
        ({"secret_file": "none.secret"}, "none.secret is no file"),
        ({"ca_file": "none.pem"}, "none.pem is no file"),
        ({"ca_file": "miner.secret"}, "holds no certificate"),
        ({"ca_file": ""}, "ca_file: Field required"),
        ({"mechanism": "GSSAPI"}, "mechanism: Input should be"),
        ({"password": SECRET}, "password: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_login_file_is_said_without_what_it_holds(
    folder: Path, fields: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_login(written(folder, **fields))
    assert caught.value.hint
    assert SECRET not in str(caught.value.as_dict())


def test_an_empty_secret_is_refused(folder: Path) -> None:
    (folder / "miner.secret").write_text("\n")
    with pytest.raises(ConfigError, match=r"miner\.secret is empty"):
        load_login(written(folder))


def test_every_verb_takes_the_login_of_the_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = current()
    try:
        monkeypatch.setenv("EVERLODE_KAFKA_LOGIN", str(written(folder)))
        assert run(["settings", "--json"]) == 0
        found = current()
        assert found is not None
        assert found.user == "miner"
        assert SECRET not in capsys.readouterr().out
        monkeypatch.setenv("EVERLODE_KAFKA_LOGIN", str(folder / "none.json"))
        assert run(["settings", "--json"]) == 2
        assert "none.json: No such file" in capsys.readouterr().out
    finally:
        use(before)
