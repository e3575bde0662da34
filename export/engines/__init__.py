"""From graphs to engines of TensorRT and TensorRT-RTX, each compared on the card that is to serve it."""
