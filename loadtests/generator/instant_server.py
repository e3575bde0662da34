"""A server that answers every clip at once with zeros: what the generator itself can do is measured against it."""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from auralsam2_client.calls.wire import CHANNEL_OPTIONS, ClipShape
from auralsam2_client.contract import CLIP, ENSEMBLE, USUAL_RESULTS, Sizes, tensors


class InstantService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # has no types
    """Metadata and inference of an ensemble of the usual shape."""

    def __init__(self, shape: ClipShape) -> None:
        sizes = Sizes(shape.num_frames, shape.image_size, channels=0)
        self._metadata = service_pb2.ModelMetadataResponse(name=ENSEMBLE)
        for spec in tensors(CLIP, sizes):
            self._metadata.inputs.add(name=spec.name, datatype=spec.dtype, shape=spec.shape)
        self._outputs = {spec.name: spec.shape for spec in tensors(USUAL_RESULTS, sizes)}

    def ModelMetadata(self, request: object, context: object) -> object:  # noqa: N802  (the protocol's name)
        return self._metadata

    def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802
        reply = service_pb2.ModelInferResponse(id=request.id)  # type: ignore[attr-defined]
        for name, dims in self._outputs.items():
            reply.outputs.add(name=name, datatype="FP32", shape=dims)
            reply.raw_output_contents.append(np.zeros(dims, np.float32).tobytes())
        return reply


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.generator.instant_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--num-frames", type=int, default=5, help="frames a clip; default: %(default)s")
    parser.add_argument("--image-size", type=int, default=256, help="px of a side; default: %(default)s")
    given = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(4), options=CHANNEL_OPTIONS)
    service = InstantService(ClipShape(given.num_frames, given.image_size))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    server.add_insecure_port(f"127.0.0.1:{given.port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main())
