"""A golden answer, as it is compared."""

from dataclasses import dataclass

from model_repository.stage_runtime.engine import Array


@dataclass(frozen=True, eq=False)
class GoldenPair:
    """A golden answer by its name: outputs as the network gives them, and as the graphs do."""

    name: str
    network: dict[str, Array]
    graphs: dict[str, Array]
