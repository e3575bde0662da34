import numpy as np

from auralsam2.data.world.showpiece import FRAMES_PER_SECOND, SIZE_PX, scene, showpiece
from auralsam2.network.log_mel import SAMPLE_RATE


def test_five_seconds_of_pictures_with_sound_and_truth() -> None:
    piece = showpiece()
    assert sum(picture.shape == (SIZE_PX, SIZE_PX, 3) for picture in piece.pictures) == 5 * FRAMES_PER_SECOND
    assert piece.sound.shape == (5 * SAMPLE_RATE, 2)
    assert piece.truth.shape == (5, SIZE_PX, SIZE_PX)
    assert piece.truth.any((1, 2)).tolist() == [True, True, False, True, True]


def test_the_story_is_as_told() -> None:
    made = scene()
    heard = [[t.shape for t, on in zip(made.things, row, strict=True) if on] for row in made.sounding]
    assert heard == [["disc"], ["triangle"], [], ["disc", "square"], ["star"]]


def test_the_silent_second_is_silent_and_the_others_are_loud() -> None:
    sound = showpiece().sound.reshape(5, SAMPLE_RATE, 2)
    level = np.sqrt((sound**2).mean((1, 2)))
    assert level[2] < 0.002
    assert level[[0, 1, 3, 4]].min() > 0.03
