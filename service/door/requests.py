"""What the door lets in: methods, headers, and how large a message may be."""

import math
import string
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from auralsam2_client.contract import ENCODED_FRAMES, ENSEMBLE, FRAMES, SESSION_SUFFIX, Parameter
from service.builds.gpu_memory import ELEMENT_BYTES, read_configs

_SERVICE = "/inference.GRPCInferenceService/"
METHODS = (
    *(_SERVICE + name for name in ("ModelInfer", "ServerLive", "ServerReady", "ModelReady")),
    *(_SERVICE + name for name in ("ServerMetadata", "ModelMetadata")),
    "/grpc.health.v1.Health/Check",
)
"""What clients of ours call. All are unary."""
LOCAL_MEMORY_METHODS = tuple(f"{_SERVICE}SystemSharedMemory{name}" for name in ("Register", "Unregister", "Status"))
"""What they call beside these with local memory."""
KNOWN_TO_SERVERS = (
    *("grpc-encoding", "grpc-accept-encoding", "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms"),
    *("grpc-trace-bin", "grpc-tags-bin", "grpc-server-stats-bin", "grpc-internal-encoding-request"),
    *("content-encoding", "accept-encoding", "lb-token", "lb-cost-bin", "endpoint-load-metrics-bin", "user-agent"),
    *("traceparent", "tracestate", "baggage", "authorization", "cookie", "x-envoy-peer-metadata"),
)
"""Headers that a gRPC server may act on, taken away by name where nginx cannot take away all."""
PREFIXES = tuple(string.ascii_lowercase + string.digits)
"""How names of headers begin; with other characters nginx drops them itself, and those with an underscore."""
# Of a message beside its tensors: names, shapes, parameters.
SLACK_BYTES = 1 << 20


def largest_message(models: Path, ensemble: str = ENSEMBLE) -> int:
    """Add up the tensors of the largest request that the build's public models take, in bytes, with room for the rest.

    Args:
        models: the repository; its tensors have fixed shapes.
    """
    configs = read_configs(models)
    public = [configs[name] for name in (ensemble, ensemble + SESSION_SUFFIX) if name in configs]
    encoded = max(
        (
            int(config.parameters[Parameter.MAX_ENCODED_FRAME_BYTES].string_value)
            for config in configs.values()
            if Parameter.MAX_ENCODED_FRAME_BYTES in config.parameters
        ),
        default=0,
    )
    return max((_request_bytes(config, encoded) for config in public), default=0) + SLACK_BYTES


def _request_bytes(config: Any, encoded_frame_bytes: int) -> int:
    tensors = {entry.name: _tensor_bytes(entry, encoded_frame_bytes) for entry in config.input}
    # A clip's frames come raw or as files.
    twice = min(tensors.get(FRAMES, 0), tensors.get(ENCODED_FRAMES, 0))
    return max(1, int(config.max_batch_size)) * (sum(tensors.values()) - twice)


def _tensor_bytes(entry: Any, encoded_frame_bytes: int) -> int:
    kind = model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_")
    elements: int = math.prod(max(1, dim) for dim in entry.dims)
    return elements * (encoded_frame_bytes if entry.name == ENCODED_FRAMES else ELEMENT_BYTES.get(kind, 0))
