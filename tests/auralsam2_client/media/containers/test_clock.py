"""One clock over joined pieces: where a stream's own clock runs back or leaps, its packets follow those before."""

import pytest

from auralsam2_client.media.containers.clock import Clock

VIDEO, SOUND, TEXT = 0, 1, 2
FRAME_S = 0.04


def placed(clock: Clock, packets: list[tuple[int, float]]) -> list[float]:
    """When the packets (stream, time) are after the clock has moved them."""
    return [round(time_s + clock.offset_s(stream, time_s, FRAME_S), 3) for stream, time_s in packets]


def piece(begin_s: float, count: int = 5) -> list[tuple[int, float]]:
    """Packets of video and sound in turns, 40 ms apart."""
    return [(stream, begin_s + FRAME_S * index) for index in range(count) for stream in (VIDEO, SOUND)]


def test_a_clock_that_runs_on_moves_nothing() -> None:
    clock = Clock(True)
    packets = piece(1.4, 200)
    assert placed(clock, packets) == [round(time_s, 3) for _, time_s in packets]
    assert clock.joints_s == []


@pytest.mark.parametrize("second_s", [1.4, 0.0, 12.0, 100.0, 95_000.0])
def test_a_piece_follows_the_one_before_wherever_its_clock_starts(second_s: float) -> None:
    clock = Clock(True)
    assert placed(clock, [*piece(1.4), *piece(second_s)])[10:] == [round(t, 3) for _, t in piece(1.6)]
    assert clock.joints_s == [pytest.approx(1.6)]


def test_packets_of_the_piece_before_may_come_behind_the_joint() -> None:
    """A demuxer gives a picture when the next begins: the last of a piece comes after sound of the next."""
    clock = Clock(True)
    late = [(SOUND, 1.4), (VIDEO, 1.6), (SOUND, 1.44), (VIDEO, 1.4), (SOUND, 1.48)]
    assert placed(clock, [*piece(1.4), *late])[10:] == [1.6, 1.6, 1.64, 1.6, 1.68]
    assert len(clock.joints_s) == 1


def test_one_wrong_time_moves_one_packet() -> None:
    clock = Clock(True)
    found = placed(clock, [*piece(0.0), (VIDEO, 9000.0), (SOUND, 0.2), (VIDEO, 0.24), (SOUND, 0.24)])
    assert found[10:] == [0.2, 0.2, 0.24, 0.24]


def test_many_pieces_are_one_behind_the_other() -> None:
    clock = Clock(True)
    packets = [packet for _ in range(10) for packet in piece(3.0)]
    assert placed(clock, packets) == [round(3.0 + FRAME_S * (index // 2), 3) for index in range(100)]
    assert len(clock.joints_s) == 9


def test_a_pause_is_none_of_it() -> None:
    """Nine seconds without a packet are a lost reception; a picture held beside the sound is one at any length."""
    clock = Clock(True)
    assert placed(clock, [*piece(0.0), (VIDEO, 9.0), (SOUND, 9.0)])[10:] == [9.0, 9.0]
    clock = Clock(True)
    held = [(VIDEO, 0.0), *((SOUND, FRAME_S * index) for index in range(1000)), (VIDEO, 40.0)]
    assert placed(clock, held)[-1] == 40.0
    alone = Clock(True)
    assert placed(alone, [(VIDEO, 0.0), (VIDEO, 30.0), (VIDEO, 55.0)]) == [0.0, 30.0, 55.0]


def test_texts_follow_and_containers_of_one_clock_are_left_alone() -> None:
    clock = Clock(True)
    placed(clock, [*piece(1.4), *piece(0.0)])
    assert clock.offset_s(TEXT, 0.1, 2.0, timed=False) == pytest.approx(1.6)
    assert placed(Clock(False), [(VIDEO, 5.0), (VIDEO, 0.0), (VIDEO, 9000.0)]) == [5.0, 0.0, 9000.0]
