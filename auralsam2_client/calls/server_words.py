"""What the server itself and the gRPC library say, where their status alone leaves open what it means for a caller.

The stages' own errors carry a code, so these are the only words of others that anything hangs on. They are those of
Triton Inference Server 2.51 (the embedded release); a test looks for them in its library.
"""

from auralsam2_client.contract import Reason

# Status, words, meaning.
SAID_BY_THE_SERVER = (
    # The bound on the queue of one model, for a build whose configuration sets one.
    ("UNAVAILABLE", "Exceeds maximum queue size", Reason.QUEUE_FULL),
    # A model that it has, but does not serve: it starts or stops. One that it does not have is "not found".
    ("NOT_FOUND", "has no available versions", Reason.UNREADY),
)
# A channel of ours that was closed, before a call or during it, fails with words and without a status.
CLOSED_CHANNEL = "closed"


def reason_of(status: str, words: str) -> Reason | None:
    """Give the reason that words of the server or the library stand for; None where the status says it all.

    Args:
        status: gRPC's name of it, "" without one.
    """
    if status == "":
        return Reason.UNREADY if CLOSED_CHANNEL in words.lower() else None
    return next((reason for known, part, reason in SAID_BY_THE_SERVER if known == status and part in words), None)
