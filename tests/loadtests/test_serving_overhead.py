"""The benchmark measures what it says: the same graphs, both ways. Nothing here looks at the clock."""

from pathlib import Path
from typing import Any

import numpy as np

from auralsam2_client.calls.client import Client
from loadtests.serving_overhead import EngineChain, Sample, measure
from service.builds.golden import Golden


def test_both_ways_run_as_often_as_asked(compact_build: Path) -> None:
    served, bare = measure(compact_build, rounds=2)
    assert (len(served.times_s), len(bare.times_s)) == (2, 2)
    assert all(seconds > 0 for seconds in served.times_s + bare.times_s)


def test_the_engine_chain_answers_what_the_server_answers(served_compact: Any, compact_build: Path) -> None:
    golden = Golden.load(compact_build)
    chain = EngineChain(compact_build)
    answer, spent_s = chain.run(golden.frames, golden.audio)
    with Client(served_compact.config.grpc_url) as client:
        served = client.infer(golden.frames, golden.audio)
    for name, value in served.items():
        np.testing.assert_allclose(answer[name], value, atol=1e-4)
    assert spent_s > 0


def test_quantiles_are_in_milliseconds() -> None:
    sample = Sample("x", [0.1, 0.2, 0.3])
    assert sample.quantile_ms(0.5) == 200.0
