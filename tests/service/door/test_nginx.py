"""Which nginx there is, and what is said where there is none."""

from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.door import choice, nginx
from service.door.choice import choose_nginx, remark
from service.door.nginx import HEADERS_MODULE, check_nginx, find_nginx, read_nginx
from service.server.config import ServerConfig
from tests.service.toy.installed import program

BUILD = Path("/build")
FULL = "nginx version: nginx/1.24.0 (Ubuntu)\nconfigure arguments: --modules-path={} --with-http_v2_module"
FULL += " --with-http_ssl_module --with-http_stub_status_module\n"


def test_version_and_module_are_read(tmp_path: Path) -> None:
    found = read_nginx(Path("/nginx"), FULL.format(tmp_path))
    assert (found.version, found.headers_module) == ("1.24.0", None)
    (tmp_path / HEADERS_MODULE).touch()
    assert read_nginx(Path("/nginx"), FULL.format(tmp_path)).headers_module == tmp_path / HEADERS_MODULE


def test_one_that_cannot_be_a_door_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without http_v2_module"):
        read_nginx(Path("/nginx"), "nginx/1.24.0 --with-http_ssl_module --with-http_stub_status_module")
    program(tmp_path / "nginx", "#!/bin/sh\nexit 3\n")
    with pytest.raises(ConfigError, match="does not run"):
        find_nginx(str(tmp_path))
    assert find_nginx(str(tmp_path / "nowhere")) is None


def test_beyond_this_machine_there_is_a_door_or_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_nginx", lambda: None)
    with pytest.raises(ConfigError, match=r"host = 0\.0\.0\.0.*apt-get install nginx.*--door off"):
        choose_nginx(ServerConfig(BUILD, host="0.0.0.0"))
    with pytest.raises(ConfigError, match="--door off"):
        choose_nginx(ServerConfig(BUILD, door="on"))
    for config in (ServerConfig(BUILD), ServerConfig(BUILD, host="0.0.0.0", door="off")):
        assert choose_nginx(config) is None
        assert "SECURITY.md" in remark(config, None)
        assert "\n" not in remark(config, None)


def test_the_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nginx, "find_nginx", lambda: None)
    assert not check_nginx().ok
    assert "apt-get install" in check_nginx().fix
    bare = read_nginx(Path("/nginx"), FULL.format(tmp_path))
    monkeypatch.setattr(nginx, "find_nginx", lambda: bare)
    assert not check_nginx().ok
    assert "strips request headers" in check_nginx().found
    (tmp_path / HEADERS_MODULE).touch()
    full = read_nginx(Path("/nginx"), FULL.format(tmp_path))
    monkeypatch.setattr(nginx, "find_nginx", lambda: full)
    assert check_nginx().ok
