"""The standard health check of gRPC: whether a server says that it serves."""

import grpc
from grpc_health.v1 import health_pb2

from auralsam2_client.calls.address import parse_address
from auralsam2_client.calls.endpoint import QUESTION_TIMEOUT_S
from auralsam2_client.calls.wire import CHANNEL_OPTIONS
from auralsam2_client.calls.wire_errors import translate


def check_health(url: str = "127.0.0.1:8001", service: str = "", *, timeout_s: float = QUESTION_TIMEOUT_S) -> str:
    """Ask by the standard protocol grpc.health.v1, as load balancers do. Returns SERVING, NOT_SERVING, or UNKNOWN.

    Raises: ServerUnavailable, ServerTimeout; BadInput for an address of another form than host:port.
    """
    url = parse_address(url)
    with grpc.insecure_channel(url, options=CHANNEL_OPTIONS) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            reply = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            raise translate(error, url=url, timeout_s=timeout_s) from error
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
