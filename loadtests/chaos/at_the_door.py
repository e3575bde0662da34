"""Faults at the front door: what ended a server without one, and a door that dies itself."""

import gzip
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2

from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault

NUM_STREAMS, NUM_BOMBS = 10, 4
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


FAULTS = (
    Fault("nginx killed", _killed),
    Fault("10 streams that ask for gRPC's errors", _streams),
    Fault("messages that unfold to 64 MiB", _bombs),
)
