"""From the network to ONNX graphs of fixed shapes: the stages of a clip, and the small graphs of prompts."""
