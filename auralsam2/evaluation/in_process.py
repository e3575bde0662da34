"""The network itself as predictor, in this process. What is served is held against it, in float32."""

from collections.abc import Callable

import torch

from auralsam2.computing import Device, Precision, explain_full_memory, open_device, rounding
from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation.predictions import Prediction, Predictor
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2_client.media.stills.frames import resize_frames

TextEncoder = Callable[[str], torch.Tensor]
"""An expression -> [1, L, W] float32 states of its words, on whichever device."""


def network_predictor(
    model: SoundingSAM2,
    conditioning_frame: int | None = 0,
    encode_text: TextEncoder | None = None,
    precision: Precision = "float32",
    device: Device = "cpu",
) -> Predictor:
    """Make a predictor that runs `model`.

    Args:
        model: any preset, with its weights.
        conditioning_frame: decoded first; None: the middle of each clip, as Ref-AVS wants.
        encode_text: for a network built with text.
        precision: "float32" | "bfloat16": network and text under autocast, as in the released scripts, which leave the
            log-mel examples alone. A CPU without bfloat16 units computes the same, slowly.
        device: "cpu" | "cuda": where the network computes; it is moved there. Answers lie on the CPU.
    Raises: NetworkError where the device is not there, and when called, where its memory is full; then too, DataError
        when a network with text meets a sample without words, or no encoder.
    """
    place = open_device(device)
    model.to(place)
    log_mel = LogMel().to(place)
    needs_text = model.reads_text

    def predict(sample: Sample) -> Prediction:
        frames = normalise(torch.from_numpy(resize_frames(sample.frames, model.image_size)).to(place))
        windows = sample.windows if needs_text else sample.windows_per_frame()
        examples = log_mel(torch.from_numpy(windows).to(place))
        middle = len(frames) // 2 if conditioning_frame is None else conditioning_frame
        text = None
        with explain_full_memory(place), torch.inference_mode(), rounding(place, precision):
            if needs_text:
                if sample.expression is None or encode_text is None:
                    raise DataError(
                        f"{sample.name}: this network reads text beside sound; evaluate it on Ref-AVS, with a text"
                        " encoder."
                    )
                text = encode_text(sample.expression).to(place)
            out = model(frames, examples, text, middle)
        answers = (out.low_res_logits, out.iou, out.object_score[:, 0])
        return Prediction(*(answer.float().cpu().numpy() for answer in answers))

    return predict
