"""Who asks: the door's word counts, and the service's own; a caller's word for itself does not."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_repository.stage_runtime.admission.asker import Asker
from model_repository.stage_runtime.callers import CALLER_HEADER
from model_repository.stage_runtime.reception import FORWARD_FLAG, Reception, is_behind_door

SECRET = "5ec12e7"


@dataclass(frozen=True)
class Request:
    said: str
    id: str = ""

    def parameters(self) -> str:
        return self.said

    def request_id(self) -> str:
        return self.id


def from_caller(name: str, secret: str | None = None) -> str:
    return json.dumps({CALLER_HEADER: name} | ({} if secret is None else {"auralsam2-secret": secret}))


def test_without_a_door_a_callers_word_for_itself_counts_nothing() -> None:
    reception = Reception(behind_door=False, secret=SECRET)
    for said in ("", "{}", from_caller("a"), from_caller("a", "guessed"), from_caller("a", ""), "[1]", "{", "7"):
        assert reception.read(Request(said, "golden-1")) == Asker("local", golden=False, request="golden-1")


def test_behind_a_door_the_headers_word_counts_and_comes_after_the_callers_own() -> None:
    reception = Reception(behind_door=True, secret=SECRET)
    both = f'{{"{CALLER_HEADER}":"spoofed","other":1,"{CALLER_HEADER}":"192.0.2.1"}}'
    assert reception.read(Request(both)) == Asker("192.0.2.1")
    assert reception.read(Request("")) == Asker("local")
    assert reception.read(Request(from_caller("a"), "golden-1")) == Asker("a", request="golden-1")


@pytest.mark.parametrize("behind_door", [False, True])
def test_who_bears_the_secret_is_believed(behind_door: bool) -> None:
    reception = Reception(behind_door=behind_door, secret=SECRET)
    assert reception.read(Request(from_caller("a", SECRET), "golden-1")) == Asker("a", golden=True, request="golden-1")
    assert reception.read(Request(from_caller("a", SECRET), "client-1")) == Asker("a", request="client-1")
    passed_on = json.dumps(reception.pass_on(Asker("a"), "round"))
    assert reception.read(Request(passed_on)) == Asker("a", round="round")
    unproven = json.dumps({**json.loads(passed_on), "auralsam2-secret": "guessed"})
    assert reception.read(Request(unproven)).round == ""


def test_a_server_without_a_secret_believes_nobody() -> None:
    reception = Reception(behind_door=False, secret="")
    assert reception.read(Request(from_caller("a", ""), "golden-1")) == Asker(request="golden-1")
    assert reception.pass_on(Asker("a"), "round") == {}


def test_a_server_behind_a_door_says_so_on_its_command_line(tmp_path: Path) -> None:
    line = tmp_path / "cmdline"
    assert not is_behind_door(line)
    line.write_bytes(b"tritonserver\0--grpc-port=1\0")
    assert not is_behind_door(line)
    line.write_bytes(f"tritonserver\0{FORWARD_FLAG}=auralsam2-(caller|request)\0".encode())
    assert is_behind_door(line)
