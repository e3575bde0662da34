"""Masks on frames: what is drawn, what the video holds, and the contact sheet."""

import av
import numpy as np
import pytest
from PIL import Image

from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.media.reader import read_media
from service.results import overlay
from service.results.caption import strip_height_px
from service.results.overlay import COLOUR, contact_sheet, draw_mask, write_overlay

HEIGHT, WIDTH = 120, 160


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:70, 40:100] = True
    return mask


@pytest.mark.parametrize("background", [0, 128, 255])
def test_a_mask_shows_on_any_background(mask, background):
    frame = np.full((HEIGHT, WIDTH, 3), background, np.uint8)
    drawn = draw_mask(frame, mask, alpha=0.5)
    np.testing.assert_allclose(drawn[50, 70], (np.array(COLOUR) + background) / 2, atol=1)
    # Across the upper edge: background, dark rim, two white pixels, fill.
    assert drawn[28, 70].tolist() == [background] * 3
    assert drawn[29, 70].tolist() == [background // 3] * 3
    assert (drawn[30:32, 70] == 255).all()
    assert drawn[32, 70].tolist() == drawn[50, 70].tolist()
    assert (frame == background).all()


def test_an_empty_mask_draws_nothing_and_a_full_one_no_line():
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_array_equal(draw_mask(frame, np.zeros((HEIGHT, WIDTH), bool)), frame)
    assert not (draw_mask(frame, np.ones((HEIGHT, WIDTH), bool), alpha=0.5) == 255).all(axis=2).any()


def plainly_drawn(frame: np.ndarray, mask: np.ndarray, alpha: float) -> np.ndarray:
    """What `draw_mask` is to draw, pixel by pixel and over the whole picture."""
    line_px = max(2, round(min(mask.shape) / 360))
    inner = overlay._grow(~mask, line_px) & mask
    outer = overlay._grow(mask, max(1, line_px // 2)) & ~mask
    drawn = frame.copy()
    shades = np.rint(frame * (1 - alpha) + alpha * np.array(COLOUR, np.float64)).astype(np.uint8)
    drawn[mask], drawn[outer], drawn[inner] = shades[mask], frame[outer] // 3, 255
    return drawn


@pytest.mark.parametrize(("height", "width"), [(8, 8), (61, 83), (900, 300)])
def test_every_pixel_is_drawn_as_by_the_plain_rule(height: int, width: int) -> None:
    random = np.random.default_rng(1)
    frame = random.integers(0, 256, (height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    corner = np.hypot(y - height, x - width) < height / 3
    middle = np.hypot(y - height / 3, x - width / 2) < width / 5
    for mask in (np.zeros((height, width), bool), x < width // 2, corner, middle, random.random((height, width)) > 0.7):
        np.testing.assert_array_equal(draw_mask(frame, mask, alpha=0.45), plainly_drawn(frame, mask, 0.45))


def test_a_video_with_captions_is_the_plain_one_above_a_strip(tmp_path):
    frames, masks = clip_of(2)
    plain = read_media(write_overlay(tmp_path / "a.mp4", frames, masks, None, 1.0, None), silent=True).frames
    captioned = read_media(write_overlay(tmp_path / "b.mp4", frames, masks, ["a", "b"], 1.0, None), silent=True).frames
    assert captioned.shape == (2, HEIGHT + strip_height_px(HEIGHT, WIDTH), WIDTH, 3)
    np.testing.assert_allclose(captioned[:, : HEIGHT - 2], plain[:, : HEIGHT - 2], atol=3)
    assert captioned[:, HEIGHT + 4 :, WIDTH // 2 :].max() < 40


def test_shapes_that_differ(mask):
    with pytest.raises(BadInput, match=r"\[5, 5, 3\], its mask \[120, 160\]"):
        draw_mask(np.zeros((5, 5, 3), np.uint8), mask)


def clip_of(num_frames: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    frames = np.stack([np.full((height, width, 3), 40 * (index % 6), np.uint8) for index in range(num_frames)])
    return frames, np.zeros((num_frames, height, width), bool)


def test_the_video_holds_each_frame_and_keeps_the_sound(clips, tmp_path):
    frames, masks = clip_of(3)
    sound = clips.tone(5.0)
    path = write_overlay(tmp_path / "a.mp4", frames, masks, ["a", "b", "c"], 1.0, sound)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt, video.average_rate, video.frames) == (
            "h264",
            "yuv420p",
            25,
            75,
        )
        assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 48_000, "stereo")
    found = read_media(path, fps=25.0)
    np.testing.assert_allclose(found.frames[:, 10, 10, 0], np.repeat([0, 40, 80], 25), atol=3)
    assert abs(len(found.sound) - 48_000) < 1_500  # cut to the frames
    loud = np.abs(found.sound[:, 0]) > 0.1
    assert np.argmax(loud) / 16_000 == pytest.approx(0.5, abs=0.01)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_later_clip_takes_its_own_part_of_the_sound(clips, tmp_path):
    frames, masks = clip_of(2)
    sound = np.zeros((6 * 16_000, 2), np.float32)
    sound[4 * 16_000 :] = clips.tone(2.0)
    found = read_media(write_overlay(tmp_path / "a.mp4", frames, masks, None, 1.0, sound, sound_start_s=4.0))
    assert np.argmax(np.abs(found.sound[:, 0]) > 0.1) / 16_000 == pytest.approx(0.5, abs=0.01)


def test_odd_sizes_are_padded_and_silence_has_no_track(tmp_path):
    frames, masks = clip_of(2, 61, 33)
    path = write_overlay(tmp_path / "a.mp4", frames, masks, None, 1.0, None)
    assert read_media(path, silent=True).frames.shape == (2, 62, 34, 3)
    with pytest.raises(BadInput, match="no sound track"):
        read_media(path)


def test_what_players_cannot_show_is_scaled_down(tmp_path):
    frames, masks = np.full((2, 60, 6000, 3), 90, np.uint8), np.zeros((2, 60, 6000), bool)
    masks[1, :, 3000:] = True
    found = read_media(
        write_overlay(tmp_path / "a.mp4", list(frames), list(masks), None, 1.0, None), silent=True
    ).frames
    assert found.shape == (2, 42, 4096, 3)
    assert np.abs(found[0].astype(int) - 90).max() < 6
    assert np.abs(found[1, 20, 3000:] - (0.55 * 90 + 0.45 * np.array(COLOUR))).max() < 12


@pytest.mark.parametrize("fps", [1e-9, float("nan"), 1000.0])
def test_no_time_is_held_for_ever(tmp_path, fps):
    frames, masks = clip_of(2, 32, 32)
    with pytest.raises(BadInput, match=r"fps = .* fps 1/3600 to 120"):
        write_overlay(tmp_path / "a.mp4", frames, masks, None, fps, None)


@pytest.mark.parametrize(
    ("fps", "num_frames", "rate", "expected"),
    [
        (3.0, 3, 25, 25),
        (4.0, 3, 12, 9),
        (5.0, 4, 10, 8),
        (10.0, 5, 10, 5),
        (12.5, 5, 12.5, 5),
        (50.0, 10, 50, 10),
        (0.5, 2, 25, 100),
    ],
)
def test_other_rates_keep_their_length(tmp_path, fps, num_frames, rate, expected):
    frames, masks = clip_of(num_frames, 32, 32)
    path = write_overlay(tmp_path / "a.mp4", frames, masks, None, fps, None)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.average_rate, video.frames) == (rate, expected)
        assert video.duration * video.time_base == pytest.approx(num_frames / fps, abs=0.5 / rate)


def test_overlays_that_cannot_be_written(tmp_path, monkeypatch):
    frames, masks = clip_of(2, 32, 32)
    with pytest.raises(BadInput, match="2 frames, 1 masks, 2 captions"):
        write_overlay(tmp_path / "a.mp4", frames, masks[:1], None, 1.0, None)
    with pytest.raises(BadInput, match=r"none/a\.mp4 cannot be written"):
        write_overlay(tmp_path / "none" / "a.mp4", frames, masks, None, 1.0, None)
    with pytest.raises(BadInput, match=r"none/a\.png cannot be written"):
        contact_sheet(tmp_path / "none" / "a.png", frames, masks)
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(ConfigError, match="libx264"):
        write_overlay(tmp_path / "a.mp4", frames, masks, None, 1.0, None)
    assert not list(tmp_path.iterdir())


def test_the_contact_sheet_has_two_rows(tmp_path):
    frames, masks = clip_of(9)
    masks[:, 30:90, 40:120] = True
    path = contact_sheet(tmp_path / "a.png", frames, masks, tile_width_px=80, max_columns=4)
    with Image.open(path) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (2 * 60 + 8, 4 * 80 + 3 * 8, 4)
    assert sheet[10, 10, :3].tolist() == [0, 0, 0]
    assert sheet[10, 3 * 88 + 10, :3].tolist() == frames[8, 0, 0].tolist()
    assert not np.array_equal(sheet[:60, :80], sheet[68:, :80])
    assert (sheet[60:68, :, 3] == 0).all()
    with Image.open(contact_sheet(tmp_path / "b.png", frames, masks, ["a"] * 9, tile_width_px=80)) as image:
        captioned = np.asarray(image)
    assert captioned.shape[0] == len(sheet) + strip_height_px(60, 80)
    np.testing.assert_array_equal(captioned[: len(sheet), :80], sheet[:, :80])
    with pytest.raises(BadInput, match="9 frames, 9 masks, 2 captions"):
        contact_sheet(tmp_path / "a.png", frames, masks, ["a", "b"])


@pytest.mark.parametrize(("pixel_aspect", "shown"), [(64 / 45, (46, 32)), (0.5, (32, 64))])
def test_pixels_that_are_not_square_are_shown_by_more_of_them(tmp_path, pixel_aspect, shown):
    frames, masks = clip_of(2, 32, 32)
    masks[:, :, :16] = True
    path = write_overlay(tmp_path / "a.mp4", frames, masks, None, 1.0, None, pixel_aspect=pixel_aspect)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == shown
    sheet = contact_sheet(tmp_path / "a.png", frames, masks, tile_width_px=64, pixel_aspect=pixel_aspect)
    with Image.open(sheet) as image:
        assert image.size == (2 * 64 + 8, 2 * round(64 * shown[1] / (32 * max(1, pixel_aspect))) + 8)


def test_a_shown_picture_is_no_larger_than_an_image_may_be():
    assert overlay._shown_size(np.zeros((100, 8000, 3), np.uint8), 2.0) == (4096, 26)
    for height, width in ((8000, 100), (4096, 4096), (4095, 2001), (8192, 8191)):
        shown_width, shown_height = overlay._shown_size(np.zeros((height, width, 3), np.uint8), 1.0, captioned=True)
        assert max(shown_width, shown_height + strip_height_px(shown_height, shown_width)) <= 4096
        assert shown_width / shown_height == pytest.approx(width / height, rel=0.02)
