"""One file of weights for several graphs: equal tensors are kept once, and each graph names their place in it.

ONNX calls it external data. Engines read it from beside the graph.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

SHARED_FROM_BYTES = 1024
# Engines map the file into memory and read float32 from it where it lies.
ALIGNMENT_BYTES = 64


def share_weights(graphs: Sequence[Path], weights: Path) -> None:
    """Move the large constants of `graphs` into the file `weights` beside them. The graphs are rewritten."""
    places: dict[tuple[int, str], tuple[int, int]] = {}
    with weights.open("wb") as file:
        for path in graphs:
            model = onnx.load(path, load_external_data=False)
            for tensor in model.graph.initializer:
                content = tensor.raw_data
                if len(content) < SHARED_FROM_BYTES:
                    continue
                key = tensor.data_type, hashlib.sha256(content).hexdigest()
                if key not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT_BYTES))
                    places[key] = file.tell(), len(content)
                    file.write(content)
                _point(tensor, weights.name, *places[key])
            path.write_bytes(model.SerializeToString(deterministic=True))


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
