"""Requests of a session to the other models of its server."""

from typing import Any

import triton_python_backend_utils as pb_utils

from auralsam2_client.contract import Reason, error_text, read_error

from ..adapter import status_of


class StageFailed(RuntimeError):
    """A stage refused or failed. Its reason and words go on to the session's caller.

    `status` is the reason's; where there is none, the server's own. An ensemble's refusal reaches a model as INTERNAL.
    """

    def __init__(self, text: str, status: Any) -> None:
        reason, words = read_error(text)
        super().__init__(words if reason is None else error_text(reason, words))
        self.status = status if reason is None else status_of(reason)
        self.reason = reason or Reason.FAULT


def call_model(model: str, inputs: list[Any], outputs: tuple[str, ...], **marks: Any) -> dict[str, Any]:
    """Call another model of this server and return its outputs by name. Raises: StageFailed."""
    request = pb_utils.InferenceRequest(model_name=model, requested_output_names=list(outputs), inputs=inputs, **marks)
    response = request.exec()
    if response.has_error():
        raise StageFailed(response.error().message(), response.error().code())
    return {name: pb_utils.get_output_tensor_by_name(response, name) for name in outputs}
