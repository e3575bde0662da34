"""The models of a build, and what a stage's template is filled with."""

from auralsam2_client.contract import STAGE_NAMES

ENSEMBLES = ("auralsam2", "auralsam2_features")
MODELS = (*STAGE_NAMES, *ENSEMBLES, "auralsam2_session")
PARAMETERS: dict[str, str | int] = {"frames_per_call": 1, "sha256": "0" * 64}
