"""The graphs in one process answer what the server answers."""

from pathlib import Path
from typing import Any

import numpy as np

from auralsam2_client.calls.client import Client
from loadtests.cpu.engine_chain import EngineChain
from service.builds.golden import Golden


def test_the_engine_chain_answers_what_the_server_answers(served_compact: Any, compact_build: Path) -> None:
    golden = Golden.load(compact_build)
    chain = EngineChain(compact_build)
    answer, spent_s = chain.run(golden.frames, golden.audio)
    with Client(served_compact.config.grpc_url) as client:
        served = client.infer(golden.frames, golden.audio)
    for name, value in served.items():
        np.testing.assert_allclose(answer[name], value, atol=1e-4)
    assert spent_s > 0
