"""What a first start says of how far it is."""

from model_repository.stage_runtime.pytorch.device.progress import COMPILING, Progress


def test_what_is_left_is_scaled_by_what_is_done() -> None:
    lines, clock = list[str](), iter([100.0, 110.0, 140.0])
    progress = Progress({"a": 1.0, "b": 3.0, "c": 4.0}, lines.append, clock=lambda: next(clock))
    for name in "abc":
        with progress.part(name):
            pass
    # 10 s for 1 of 8 parts leave 70 s; 40 s for 4 of 8 leave 40 s.
    assert lines == [
        "compiling a, 1 of 3",
        "compiling b, 2 of 3, about 70 s left",
        "compiling c, 3 of 3, about 40 s left",
    ]


def test_every_stage_has_a_share() -> None:
    assert list(COMPILING) == ["vggish", "hiera", "aural_fuser", "sam2_decoder"]
