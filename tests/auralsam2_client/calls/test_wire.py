"""Errors on the wire: each status has one meaning, and no words of the server give its paths away."""

import pytest
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls.wire_errors import scrub, translate
from auralsam2_client.errors import BadInput, ConfigError, ServerFault, ServerTimeout, ServerUnavailable


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        ("INVALID_ARGUMENT", "bad", BadInput),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", ServerTimeout),
        ("UNAVAILABLE", "failed to connect", ServerUnavailable),
        ("NOT_FOUND", "Request for unknown model: 'auralsam2' has no available versions", ServerUnavailable),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", ConfigError),
        ("CANCELLED", "Locally cancelled", ServerUnavailable),
        ("RESOURCE_EXHAUSTED", "quota", ServerUnavailable),
        ("UNIMPLEMENTED", "no such method", ConfigError),
        ("INTERNAL", "stub died", ServerFault),
        ("UNKNOWN", "?", ServerFault),
    ],
)
def test_every_status_has_one_meaning(status: str, text: str, kind: type[Exception]) -> None:
    error = InferenceServerException(text, status=f"StatusCode.{status}")
    assert type(translate(error, url="somewhere", timeout_s=1)) is kind


def test_scrubbed_text_keeps_no_path_stack_or_region() -> None:
    text = "Failed: ValueError: no\n\nAt:\n  /srv/models/hiera/1/model.py(24): answer\n"
    assert scrub(text) == "Failed: ValueError: no"
    assert scrub("open /srv/data/x.onnx failed") == "open <path> failed"
    assert scrub("Failed to grow 'auralsam2_77_ab12_0d4c89c3-0436' to 5") == "Failed to grow '<region>' to 5"
    assert scrub("shape [2,32] expected 3/4") == "shape [2,32] expected 3/4"
    assert len(scrub("x" * 5000)) == 400
