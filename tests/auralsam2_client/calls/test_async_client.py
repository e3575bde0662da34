"""The asyncio client offers what the blocking one does, and marks its requests in the same way."""

import asyncio
import inspect
from typing import Any

import numpy as np
import pytest

from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.contract import WINDOW_SAMPLES

T, S = 2, 32


def public_names(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_names_and_settings() -> None:
    assert public_names(AsyncClient) == public_names(Client)
    settings = [list(inspect.signature(kind.__init__).parameters.values()) for kind in (AsyncClient, Client)]
    assert settings[0] == settings[1]
    for name in public_names(Client):
        ours, theirs = getattr(AsyncClient, name), getattr(Client, name)
        if inspect.isfunction(theirs):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name


@pytest.mark.parametrize(("caller", "begins"), [("batch-7", "batch-7-"), (None, "client-")])
def test_the_caller_begins_the_id_of_each_request(caller: str | None, begins: str) -> None:
    sent: list[dict[str, Any]] = []

    async def infer(model: str, inputs: object, **options: Any) -> None:
        sent.append({"model": model, **options})
        raise asyncio.CancelledError

    async def main() -> None:
        settings: dict[str, Any] = {} if caller is None else {"caller": caller}
        async with AsyncClient("127.0.0.1:1", timeout_s=5, **settings) as client:
            client._shape = ClipShape(T, S)
            client._wire.infer = infer
            assert (await client.num_frames(), await client.image_size()) == (T, S)
            with pytest.raises(asyncio.CancelledError):
                await client.infer(np.zeros((T, S, S, 3), np.uint8), np.zeros((T, WINDOW_SAMPLES, 2), np.float32))

    asyncio.run(main())
    (request,) = sent
    assert request["request_id"].startswith(begins)
    assert 0 < request["timeout"] <= 5_000_000
