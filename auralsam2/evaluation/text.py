"""The text encoder that a network's projection reads: DistilRoBERTa, as Ref-AVS checkpoints do, or its file's own."""

import torch

from auralsam2 import checkpoints
from auralsam2.computing import Device, open_device
from auralsam2.errors import DataError
from auralsam2.evaluation.in_process import TextEncoder
from auralsam2.model.with_text import sentence_encoder

MODEL = "distilbert/distilroberta-base"
NUM_TOKENS, WIDTH = 25, 768


def text_encoder(width: int, checkpoint: str, device: Device = "cpu") -> TextEncoder:
    """Load the text encoder of a network whose projection reads states of `width`.

    Args:
        width: the preset's `text_width`: 768 is DistilRoBERTa, another the encoder in the file.
        checkpoint: path or hf:// reference of the network's weights.
        device: "cpu" | "cuda": where DistilRoBERTa computes.
    Raises: DataError where DistilRoBERTa cannot be had; CheckpointError where the file has no encoder of this project.
    """
    if width == WIDTH:
        return distilroberta(device=device)
    return sentence_encoder(checkpoint, checkpoints.read(checkpoint), width)


def distilroberta(model: str = MODEL, device: Device = "cpu") -> TextEncoder:
    """Load the text encoder: last hidden state of 25 tokens, padded or cut, [1, 25, 768] float32.

    Args:
        model: name on the Hugging Face hub, or a local folder.
        device: "cpu" | "cuda": where it computes.
    Raises: DataError when `transformers` is not installed or the model cannot be had.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise DataError("text needs the package 'transformers'; install it with: pip install transformers") from error
    place = open_device(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModel.from_pretrained(model).eval().to(place)
    except (OSError, ValueError) as error:
        raise DataError(f"{model}: cannot be loaded ({error}). Download it elsewhere and give its folder.") from error

    def encode(expression: str) -> torch.Tensor:
        tokens = tokenizer(
            expression, max_length=NUM_TOKENS, padding="max_length", truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            states: torch.Tensor = network(**{name: ids.to(place) for name, ids in tokens.items()}).last_hidden_state
        return states.float()

    return encode
