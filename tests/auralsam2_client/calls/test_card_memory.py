"""Frames by the memory of a card: its life from a client's first clip to its end, with CUDA's library stood in for."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls import local_memory
from auralsam2_client.calls.local_memory import LocalMemory, encode_placed, place, sweep_server
from auralsam2_client.calls.wire import Call, ClipShape
from auralsam2_client.card_regions import LIBRARY, card_of
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.local_regions import FOLDER

SHAPE = ClipShape(2, 64)
CLIP: dict[str, NDArray[Any]] = {
    "FRAMES": np.arange(2 * 64 * 64 * 3, dtype=np.uint8).reshape(2, 64, 64, 3),
    "AUDIO": np.zeros((2, 15600, 2), np.float32),
}
CALL = Call(CLIP, ["MASK_LOGITS"])


class Server:
    """The calls of the library's client that concern memory, and what the server would know after them."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {"system": {}, "cuda": {}}
        self.refuses_cards = False
        self.at_work = False

    def __call__(self, url: str, **options: Any) -> "Server":
        return self

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def register_system_shared_memory(self, name: str, key: str, num_bytes: int, **options: Any) -> None:
        self.known["system"][name] = SimpleNamespace(key=key)

    def register_cuda_shared_memory(self, name: str, handle: bytes, card: int, size: int, **options: Any) -> None:
        if self.refuses_cards:
            raise InferenceServerException("failed to open CUDA IPC handle: invalid device ordinal")
        self.known["cuda"][name] = (handle, card, size)

    def _forget(self, kind: str, name: str) -> None:
        if self.at_work:
            raise InferenceServerException("in use")
        self.known[kind].pop(name, None)

    def unregister_system_shared_memory(self, name: str, **options: Any) -> None:
        self._forget("system", name)

    def unregister_cuda_shared_memory(self, name: str, **options: Any) -> None:
        self._forget("cuda", name)

    def get_system_shared_memory_status(self, **options: Any) -> Any:
        return SimpleNamespace(regions=dict(self.known["system"]))

    def get_cuda_shared_memory_status(self, **options: Any) -> Any:
        return SimpleNamespace(regions=dict(self.known["cuda"]))

    def is_server_live(self, **options: Any) -> bool:
        return True

    def close(self) -> None:
        pass


class Cuda:
    """The library's functions, on memory of this process. Freeing what the server has open is an error here."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.memory: dict[str, bytearray] = {}

    def create_shared_memory_region(self, name: str, num_bytes: int, card: int) -> str:
        if card > 0:
            raise RuntimeError("invalid device ordinal")
        self.memory[name] = bytearray(num_bytes)
        return name

    def get_raw_handle(self, name: str) -> bytes:
        return name.encode()

    def set_shared_memory_region(self, name: str, values: list[NDArray[Any]]) -> None:
        self.memory[name][:] = values[0].tobytes()

    def destroy_shared_memory_region(self, name: str) -> None:
        assert name not in self.server.known["cuda"], "the server has it open"
        del self.memory[name]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(triton, "InferenceServerClient", found)
    return found


@pytest.fixture
def cuda(server: Server, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda(server)
    monkeypatch.setitem(sys.modules, LIBRARY, found)
    return found


def test_frames_lie_on_the_card_and_the_rest_beside_them(server: Server, cuda: Cuda) -> None:
    local = LocalMemory("127.0.0.1:8001", 0)
    placed = place(CALL, SHAPE, on_card=True)
    assert placed.inputs.keys() == {"AUDIO"}
    region = local.take(placed.num_bytes, 1.0, placed.card_bytes)
    inputs, _ = encode_placed(CALL, placed, region)
    places = {item.name(): item._get_tensor().parameters["shared_memory_region"].string_param for item in inputs}
    assert places == {"AUDIO": region.name, "FRAMES": f"{region.name}_card"}
    assert bytes(cuda.memory[f"{region.name}_card"]) == CLIP["FRAMES"].tobytes()
    assert server.known["cuda"] == {f"{region.name}_card": (f"{region.name}_card".encode(), 0, CLIP["FRAMES"].nbytes)}
    local.give_back(region)
    assert local.take(placed.num_bytes, 1.0, placed.card_bytes) is region, "used again"
    assert local.take(placed.num_bytes, 1.0) is not region, "a call without frames, as a later round of a session"
    local.close()
    assert server.known == {"system": {}, "cuda": {}}
    assert cuda.memory == {}
    assert not (FOLDER / region.name).exists()


def test_what_the_server_holds_at_the_end_is_not_freed_under_it(
    server: Server, cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_memory, "CLOSE_PATIENCE_S", 0.0)
    local = LocalMemory("127.0.0.1:8001", 0)
    region = local.take(4096, 1.0, 4096)
    server.at_work = True
    local.close()
    assert cuda.memory.keys() == {f"{region.name}_card"}, "it goes with the process"
    assert not (FOLDER / region.name).exists(), "the service's sweep takes it for a dead client's"
    server.at_work = False
    assert sweep_server("127.0.0.1:8001") == 2
    assert server.known == {"system": {}, "cuda": {}}


def test_a_sweep_leaves_the_living_and_what_is_not_ours(server: Server, cuda: Cuda) -> None:
    local = LocalMemory("127.0.0.1:8001", 0)
    region = local.take(4096, 1.0, 4096)
    dead = f"auralsam2_local_1_{'0' * 16}_card"
    server.known["cuda"] |= {dead: None, "another_card": None}
    assert sweep_server("127.0.0.1:8001") == 1
    assert server.known["cuda"].keys() == {f"{region.name}_card", "another_card"}
    local.close()


def test_a_server_on_no_card_says_so_and_keeps_nothing(server: Server, cuda: Cuda) -> None:
    server.refuses_cards = True
    local = LocalMemory("127.0.0.1:8001", 0)
    with pytest.raises(ConfigError, match=r"takes no local memory .*--local-memory`, on the same card"):
        local.take(4096, 1.0, 4096)
    assert server.known == {"system": {}, "cuda": {}}
    assert cuda.memory == {}
    local.close()


def test_a_client_without_a_card_says_so_in_one_sentence(server: Server, cuda: Cuda) -> None:
    local = LocalMemory("127.0.0.1:8001", 1)
    with pytest.raises(ConfigError, match=r"local_memory='cuda:1' needs that NVIDIA card.*invalid device ordinal"):
        local.take(4096, 1.0, 4096)
    assert server.known == {"system": {}, "cuda": {}}
    local.close()


def test_a_client_without_the_package_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARY, None)
    local = LocalMemory("127.0.0.1:8001", 0)
    with pytest.raises(ConfigError, match="the package cuda-python"):
        local.take(4096, 1.0, 4096)
    local.close()


@pytest.mark.parametrize(("value", "card"), [(True, None), (False, None), ("cuda", 0), ("cuda:1", 1)])
def test_a_card_is_named_by_its_number(value: bool | str, card: int | None) -> None:
    assert card_of(value) == card


@pytest.mark.parametrize("value", ["", "gpu", "cuda:", "cuda:x", "cuda:-1"])
def test_another_value_is_refused(value: str) -> None:
    with pytest.raises(BadInput, match="local_memory = "):
        card_of(value)
