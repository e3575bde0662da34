"""The page of settings names what there is, with the defaults of the code."""

import dataclasses
import re

from auralsam2_client.contract import VARIABLE_PREFIX, Parameter
from service.commands.terminal import CLIPS_LEFT_OUT, EXIT_CODES, INTERRUPTED
from service.door.requests import METHODS
from service.server.config import ServerConfig
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "settings.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", TEXT, re.MULTILINE))


def written(field: dataclasses.Field[object]) -> str:
    default = field.default
    if field.name == "build":
        return "`build/compact-256-t5`"
    if default is None or default is dataclasses.MISSING:
        return "unset"
    shown = int(default) if isinstance(default, bool) else default
    return f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`"


def test_every_setting_of_a_server_is_there_with_its_default() -> None:
    fields = {f"{VARIABLE_PREFIX}{field.name.upper()}": written(field) for field in dataclasses.fields(ServerConfig)}
    assert {name: default for name, default in ROWS.items() if name in fields} == fields


def test_what_overrules_a_build_is_there() -> None:
    for name in (Parameter.MAX_CLIPS_IN_FLIGHT, Parameter.SESSION_GIVE_WAY_S):
        assert f"`{name.variable}`" in TEXT


def test_every_exit_code_is_there() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert codes == {0, 1, *EXIT_CODES.values(), CLIPS_LEFT_OUT, INTERRUPTED, 143}


def test_what_is_open_is_there() -> None:
    assert [name for name in METHODS if f"`{name.rpartition('/')[2]}`" not in TEXT] == []
