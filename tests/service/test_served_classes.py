"""A build with classes on the real server: what is in the masks has a name, whatever the masks were made from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auralsam2.classes.class_head import ClassHead
from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import read_split
from auralsam2.data.world.shapes import SHAPES
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2_client.calls.client import Client
from auralsam2_client.contract import CLASS_RESULTS, RESULTS
from auralsam2_client.errors import ConfigError
from auralsam2_client.media.stills.frames import resize_frames
from auralsam2_client.prompts import Prompts
from export.loading import load_aural_sam2, load_class_head
from service.server.serving import serve_build
from tests.builds import WITH_CLASSES, built_once, served_once

POINT = (112.0, 112.0)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    build = served_once(built_once(WITH_CLASSES), tmp_path_factory)
    with serve_build(build, environ={}) as launcher, Client(launcher.config.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def sample() -> Sample:
    clips = read_split("single", 9, size=WITH_CLASSES.size, num_frames=WITH_CLASSES.num_frames)
    return next(sample for sample in clips if sample.masks.any((1, 2)).all())


def named_by(
    head: ClassHead, model: AuralSAM2, sample: Sample, masks: NDArray[np.float32], heard: bool
) -> torch.Tensor:
    """What the head, in PyTorch, makes of the served masks."""
    frames = normalise(torch.from_numpy(resize_frames(sample.frames, model.image_size)))
    with torch.no_grad():
        _, aural = model.forward_with_features(frames, LogMel()(torch.from_numpy(sample.windows)))
        image = model.image_features(frames)
        visual, audio = aural.visual[2], aural.audio
        if not heard:
            visual, audio = torch.zeros_like(visual), tuple(torch.zeros_like(each) for each in audio)  # type: ignore[assignment]
        class_map, _ = head(*image, visual, *audio, torch.from_numpy(np.array(masks)))
    return torch.as_tensor(class_map)


def test_classes_are_those_of_the_head_for_masks_of_every_kind(client: Client, sample: Sample) -> None:
    model, (head, names) = load_aural_sam2(WITH_CLASSES), load_class_head(WITH_CLASSES)
    mark = Prompts(points=[(*POINT, "+")], frame=1)
    for prompts, use_audio in ((None, True), (mark, True), (mark, False)):
        heard = sample.windows if use_audio else None
        answer = client.segment(sample.frames, heard, prompts=prompts, use_audio=use_audio)
        assert answer.class_names == names == tuple(SHAPES)
        assert answer.class_map is not None
        assert answer.class_scores is not None
        assert answer.class_scores.shape == (2, len(names))
        assert ((answer.class_map > 0) == (answer.mask_logits > 0)).all()
        wanted = named_by(head, model, sample, answer.mask_logits, use_audio).numpy()
        assert (answer.class_map == wanted).mean() >= 0.998
        assert ((answer.labels() > 0) == answer.masks()).all()


def test_masks_in_a_small_form_have_the_same_classes(client: Client, sample: Sample) -> None:
    by_logits, by_rle = (client.segment(sample.frames, sample.windows, answer=form) for form in ("logits", "rle"))
    assert by_logits.class_map is not None
    assert by_rle.class_map is not None
    assert by_logits.class_map.any()
    assert by_rle.class_map.tobytes() == by_logits.class_map.tobytes()


def test_they_may_be_asked_for_alone(client: Client, sample: Sample) -> None:
    frames = resize_frames(sample.frames, client.image_size)
    found = client.infer(frames, sample.windows, outputs=CLASS_RESULTS)
    assert set(found) == set(CLASS_RESULTS)
    assert found["CLASS_MAP"].dtype == np.uint8


def test_a_build_without_classes_says_what_to_do(small_build: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    build = served_once(small_build, tmp_path_factory)
    with serve_build(build, environ={}) as launcher, Client(launcher.config.grpc_url) as client:
        clip = np.zeros((2, 224, 224, 3), np.uint8), np.zeros((2, 15600, 2), np.float32)
        with pytest.raises(ConfigError, match=r"CLASS_MAP of a build without classes.*--classes"):
            client.infer(*clip, outputs=(*RESULTS, "CLASS_MAP"))
        assert not client.clip_shape().names_classes
        assert client.segment(*clip).class_map is None
