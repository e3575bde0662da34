"""Faults of callers: values that are none, calls that nobody waits for, connections that idle or speak nonsense."""

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import numpy as np
from tritonclient import grpc

from auralsam2_client.contract import ENSEMBLE, WINDOW_SAMPLES
from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault

NUM_CONNECTIONS, NUM_CALLS = 300, 50
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _connected(words: Callable[[random.Random], bytes]) -> Callable[[Around], AbstractContextManager[None]]:
    @contextmanager
    def hold(around: Around) -> Iterator[None]:
        chance = random.Random(0)
        with ExitStack() as stack:
            for _ in range(NUM_CONNECTIONS):
                with suppress(OSError):
                    line = stack.enter_context(socket.create_connection(("127.0.0.1", around.grpc_port), timeout=2))
                    line.sendall(words(chance))
            yield

    return hold


def _called(model: str, dtype: str, value: float, timeout_s: float) -> Callable[[Around], AbstractContextManager[None]]:
    @contextmanager
    def hold(around: Around) -> Iterator[None]:
        client = grpc.InferenceServerClient(around.url)
        sound = np.full((5, WINDOW_SAMPLES, 2), value, np.float32)
        given = grpc.InferInput("AUDIO", sound.shape, dtype)
        given.set_data_from_numpy(sound) if dtype == "FP32" else None
        for number in range(NUM_CALLS):
            with suppress(grpc.InferenceServerException):
                client.infer(model, [given], request_id=f"chaos-{number}", client_timeout=timeout_s)
        client.close()
        yield

    return hold


FAULTS = (
    Fault("300 connections that idle", _connected(lambda chance: b""), 5.0),
    Fault("300 connections with half a greeting", _connected(lambda chance: HTTP2_PREFACE), 5.0),
    Fault("300 connections that speak nonsense", _connected(lambda chance: chance.randbytes(200)), 2.0),
    Fault("50 calls without frames", _called(ENSEMBLE, "FP32", 0.0, 5.0)),
    Fault("50 calls of a stage with NaN", _called("vggish", "FP32", float("nan"), 5.0)),
    Fault("50 calls of a stage that nobody waits for", _called("vggish", "FP32", 0.0, 0.002)),
    Fault("50 calls without a tensor's bytes", _called("vggish", "FP64", 0.0, 5.0)),
    Fault("50 calls of a model that is not there", _called("no_such_model", "FP32", 0.0, 5.0)),
)
