"""A network with a class head: the masks are the network's own, and the head hears what it is given."""

import pytest
import torch
from torch import Tensor

from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.classifier import Classifier, perceive
from auralsam2.data.world.labels import open_labelled
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_aural_sam2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel


@pytest.fixture(scope="module")
def model() -> AuralSAM2:
    return load_aural_sam2("compact")[0]


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor]:
    sample = open_labelled("single", 1)[0]().sample
    return normalise(torch.from_numpy(sample.frames[:3])), LogMel()(torch.from_numpy(sample.windows[:3]))


def test_what_is_perceived_is_what_the_network_says(model: AuralSAM2, clip: tuple[Tensor, Tensor]) -> None:
    found = perceive(model, *clip, 1)
    output, aural = model.forward_with_features(*clip, conditioning_frame=1)
    for one, other in zip(vars(found.output).values(), vars(output).values(), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(found.image, model.image_features(clip[0]), strict=True):
        torch.testing.assert_close(one, other)
    inputs = found.head_inputs(output.select())
    torch.testing.assert_close(inputs[3], aural.visual[2])
    for one, other in zip(inputs[4:7], aural.audio, strict=True):
        torch.testing.assert_close(one, other)


def test_masks_are_the_networks_whatever_the_head_hears(model: AuralSAM2, clip: tuple[Tensor, Tensor]) -> None:
    frames, heard = clip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(model, ClassHead(model.preset, 4), ("a", "b", "c", "d"))
    own = classifier.classify(frames, heard)
    torch.testing.assert_close(own.mask_logits, model(frames, heard).select())
    other = classifier.classify(frames, heard, heard_by_head=heard.flip(-1))
    assert torch.equal(other.mask_logits, own.mask_logits)
    assert not torch.allclose(other.class_scores, own.class_scores)
