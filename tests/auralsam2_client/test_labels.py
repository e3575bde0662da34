"""Labels at the size of a video: every pixel of a mask has a class, and the network's own rule gives the same ones."""

import numpy as np
import pytest
import torch

from auralsam2.classes.classifier import enlarge_labels as by_network
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.errors import ConfigError
from auralsam2_client.labels import enlarge_labels
from auralsam2_client.masks import to_masks


@pytest.mark.parametrize("size", [(64, 64), (45, 80), (256, 256), (7, 5)])
def test_labels_are_those_of_the_networks_own_rule(size: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=(2, 16, 16)).astype(np.float32)
    class_map = np.where(logits > 0, random.integers(1, 5, logits.shape), 0).astype(np.uint8)
    masks = to_masks(logits, size)
    found = enlarge_labels(class_map, masks)
    wanted = by_network(torch.from_numpy(class_map), torch.from_numpy(logits), size).numpy()
    assert ((found > 0) == masks).all(), "every pixel of a mask has a class, and no other"
    assert (found == wanted).mean() > 0.999
    assert len(np.unique(found)) > 2


def test_an_empty_mask_has_no_labels() -> None:
    assert not enlarge_labels(np.ones((1, 4, 4), np.uint8), np.zeros((1, 8, 8), np.bool_)).any()


def test_a_build_without_classes_has_none_to_give() -> None:
    scores = np.zeros(1, np.float32)
    answer = Segmentation(np.ones((1, 4, 4), np.float32), np.zeros((1, 3), np.float32), scores, 8, 8)
    assert answer.class_names == ()
    with pytest.raises(ConfigError, match="exported without --classes"):
        answer.labels()
