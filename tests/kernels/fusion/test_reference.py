"""Both forms of the two-way fusion against readings element by element."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.fusion.reference import Projections, two_way_paper, two_way_released

SHAPES = [
    pytest.param(2, 8, 4, 4, 3, id="rows-inside-channels"),
    pytest.param(3, 128, 14, 14, 3, id="rows-straddle-channels"),
    pytest.param(5, 128, 16, 16, 5, id="production"),
    pytest.param(4, 128, 14, 14, 29, id="with-text"),
    pytest.param(1, 64, 16, 16, 1, id="one-frame-one-token"),
    pytest.param(11, 64, 1, 7, 1, id="77-rows"),
]


def projections(num_frames: int, width: int, height: int, columns: int, tokens: int) -> tuple[Projections, Projections]:
    draw = torch.Generator().manual_seed(num_frames * width + tokens)

    def three(*shape: int) -> Projections:
        q, k, v = (torch.randn(shape, generator=draw) for _ in range(3))
        return q, k, v

    return three(num_frames, width, height, columns), three(tokens, width)


def as_lists(tensors: Projections) -> list[np.ndarray]:
    return [tensor.double().numpy() for tensor in tensors]


def within(ours: Tensor, truth: np.ndarray) -> None:
    """Float32 rounding: 1e-5 of the largest element."""
    assert ours.shape == truth.shape
    assert ours.isfinite().all()
    assert np.abs(ours.double().numpy() - truth).max() <= 1e-5 * np.abs(truth).max()


@pytest.mark.parametrize(("num_frames", "width", "height", "columns", "tokens"), SHAPES)
def test_released_form(num_frames: int, width: int, height: int, columns: int, tokens: int) -> None:
    """Row n of a visual projection is elements n*d .. n*d + d - 1 of its memory, whatever pixel or channel they are.

    Element (row n, feature e) of the frame result lies at place e*N + n of the output's memory; of the audio result,
    (token m, feature e) lies at place e*M + m.
    """
    visual, audio = projections(num_frames, width, height, columns, tokens)
    q_v, k_v, v_v = (p.ravel() for p in as_lists(visual))
    q_a, k_a, v_a = as_lists(audio)
    num_rows = num_frames * height * columns
    frame, sound = np.zeros(num_rows * width), np.zeros(tokens * width)
    heard, seen = k_a.T @ v_a, np.zeros((width, width))
    for n in range(num_rows):
        row = slice(n * width, (n + 1) * width)
        frame[n::num_rows] = q_v[row] @ heard / num_rows
        seen += np.outer(k_v[row], v_v[row])
    for m in range(tokens):
        sound[m::tokens] = q_a[m] @ seen / num_rows
    ours_frame, ours_sound = two_way_released(visual, audio)
    within(ours_frame, frame.reshape(num_frames, width, height, columns))
    within(ours_sound, sound.reshape(tokens, width))


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max())
    return np.asarray(raised / raised.sum())


@pytest.mark.parametrize(("num_frames", "width", "height", "columns", "tokens"), SHAPES)
def test_paper_form(num_frames: int, width: int, height: int, columns: int, tokens: int) -> None:
    visual, audio = projections(num_frames, width, height, columns, tokens)
    q_v, k_v, v_v = as_lists(visual)
    q_a, k_a, v_a = as_lists(audio)
    frame, sound = np.zeros_like(q_v), np.zeros_like(q_a)
    places = [(t, y, x) for t in range(num_frames) for y in range(height) for x in range(columns)]
    for t, y, x in places:
        frame[t, :, y, x] = softmax(k_a @ q_v[t, :, y, x] / math.sqrt(width)) @ v_a
    keys = np.array([k_v[t, :, y, x] for t, y, x in places])
    values = np.array([v_v[t, :, y, x] for t, y, x in places])
    for m in range(tokens):
        sound[m] = softmax(keys @ q_a[m] / math.sqrt(width)) @ values
    ours_frame, ours_sound = two_way_paper(visual, audio)
    within(ours_frame, frame)
    within(ours_sound, sound)


def test_released_form_moves_values_across_frames_and_the_paper_form_does_not() -> None:
    """The frame direction reads one visual row alone, so only the reinterpretation carries values to another frame."""
    visual, audio = projections(3, 128, 14, 14, 3)
    moved = visual[0].clone()
    moved[0] += 1
    for form, leaks in ((two_way_released, True), (two_way_paper, False)):
        before, _ = form(visual, audio)
        after, _ = form((moved, visual[1], visual[2]), audio)
        assert bool((after != before)[1:].any()) is leaks
