"""Faults at the front door: what ended a server without one, and a door that dies itself."""

import gzip
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import numpy as np
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import WINDOW_SAMPLES
from auralsam2_client.errors import AuralServeError
from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault
from loadtests.chaos.other_address import from_address

NUM_STREAMS, NUM_BOMBS, NUM_HOGS = 10, 4, 16
HOG = "127.0.0.2"
BOMB_BYTES = 64 << 20
_INFER = "/inference.GRPCInferenceService/ModelInfer"


@contextmanager
def _killed(around: Around) -> Iterator[None]:
    for process in around.processes("nginx")[:1]:
        os.kill(process.pid, signal.SIGKILL)
    yield


@contextmanager
def _streams(around: Around) -> Iterator[None]:
    """Two refused requests in one stream that asks for gRPC's errors, which ends a server (2.51) that they reach."""
    with grpc.insecure_channel(around.url) as channel:
        ask = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        for _ in range(NUM_STREAMS):
            requests = [service_pb2.ModelInferRequest(model_name="auralsam2")] * 2
            with suppress(grpc.RpcError):
                list(ask(iter(requests), metadata=(("triton_grpc_error", "true"),), timeout=5))
    yield


@contextmanager
def _bombs(around: Around) -> Iterator[None]:
    """Messages that unfold to a thousand times their size."""
    request = service_pb2.ModelInferRequest(model_name="no_such_model")
    request.raw_input_contents.append(bytes(BOMB_BYTES))
    folded = gzip.compress(request.SerializeToString(), 1)
    with grpc.insecure_channel(around.url) as channel:
        ask = channel.unary_unary(_INFER, request_serializer=lambda sent: sent, response_deserializer=lambda got: got)
        for _ in range(NUM_BOMBS):
            with suppress(grpc.RpcError):
                ask(folded, metadata=(("grpc-encoding", "gzip"),), timeout=20)
            with suppress(triton.InferenceServerException), triton.InferenceServerClient(around.url) as client:
                client.infer("no_such_model", [], compression_algorithm="gzip", client_timeout=5)
    yield


@contextmanager
def _hog(around: Around) -> Iterator[None]:
    """Many callers of one other address, who ask as fast as they can, and never pause."""
    stop, shape = threading.Event(), None
    with Client(around.url) as client:
        shape = client.clip_shape()
    frames = np.zeros((shape.num_frames, shape.image_size, shape.image_size, 3), np.uint8)
    sound = np.zeros((shape.num_frames, WINDOW_SAMPLES, 2), np.float32)
    with from_address(HOG, around.grpc_port) as port:

        def ask() -> None:
            with Client(f"127.0.0.1:{port}") as client:
                while not stop.is_set():
                    with suppress(AuralServeError):
                        client.infer(frames, sound, timeout_s=5)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(NUM_HOGS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)


FAULTS = (
    Fault("16 greedy callers of another address", _hog, 15.0, least_answered=0.95),
    Fault("nginx killed", _killed),
    Fault("10 streams that ask for gRPC's errors", _streams),
    Fault("messages that unfold to 64 MiB", _bombs),
)
