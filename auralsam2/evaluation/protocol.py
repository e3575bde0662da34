"""What a figure means: every choice in which the released evaluation scripts and this project's own way differ.

Source: the released scripts of AuralSAM2, which are two families: AVSBench (V1s, V1m, V2) and Ref-AVS.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from auralsam2.computing import PRECISIONS, Precision
from auralsam2.data.resampling import Resampler
from auralsam2.errors import DataError
from auralsam2.network.readout import NO_OBJECT_LOGIT, ReadOut

ProtocolName = Literal["released", "project"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
LAYOUTS = ("avsbench", "ref-avs")


@dataclass(frozen=True)
class Protocol:
    """One way to make figures."""

    name: ProtocolName
    precision: Precision
    """Of the network in this process: "bfloat16" is autocast, matrix products and convolutions only."""
    compared_at: Literal["network", "labels"]
    """Size at which masks meet labels: the network's S x S, labels resized to the nearest pixel | the labels' own."""
    jaccard_over: Literal["batches", "frames"]
    """M_J is the mean over batches of each batch's mean over frames | the mean over all frames of a split."""
    clips_per_batch: int
    """M_F is the maximum of a batch's mean curve, and the mean of that over batches."""
    without_object: Literal["zero", "left_out"]
    """What M_F makes of a batch in which no frame shows an object."""
    null_metric: Literal["share", "root"]
    """S: share of mask pixels over the split | mean over clips of its square root."""
    headline: ReadOut
    """The read-out whose figure stands for the model."""
    absent_logit: float
    """What the read-out `iou_occlusion` puts into every pixel of a frame without object; 0 enters M_F as 0.5."""
    pooled_v2: bool
    """V2 is the clips of v1s, v1m and v2 together | of the label v2 alone."""
    resampler: Resampler
    """For sound that is not at 16 kHz."""
    least_examples: int | None
    """Sound is filled up to so many examples, longer sound keeps all it has | None: to one a frame."""
    conditioning: Literal["first", "middle"]
    """The frame of each clip that is decoded first."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("protocol", self.name, PROTOCOLS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise DataError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}.")
        if self.clips_per_batch < 1:
            raise DataError(f"clips_per_batch = {self.clips_per_batch}; at least one is needed.")

    @property
    def conditioning_frame(self) -> int | None:
        """As `network_predictor` takes it; None: the middle of each clip."""
        return 0 if self.conditioning == "first" else None

    def as_json(self) -> dict[str, Any]:
        """Describe it for the report file."""
        return asdict(self)


RELEASED_AVSBENCH = Protocol(
    name="released",
    precision="bfloat16",
    compared_at="network",
    jaccard_over="batches",
    clips_per_batch=1,
    without_object="zero",
    null_metric="share",
    headline="iou",
    absent_logit=0.0,
    pooled_v2=True,
    resampler="resampy",
    least_examples=None,
    conditioning="first",
)
RELEASED_REF_AVS = replace(
    RELEASED_AVSBENCH, clips_per_batch=4, pooled_v2=False, least_examples=5, conditioning="middle"
)
PROJECT_AVSBENCH = Protocol(
    name="project",
    precision="float32",
    compared_at="labels",
    jaccard_over="frames",
    clips_per_batch=1,
    without_object="left_out",
    null_metric="root",
    headline="iou_occlusion",
    absent_logit=NO_OBJECT_LOGIT,
    pooled_v2=False,
    resampler="soxr",
    least_examples=None,
    conditioning="first",
)
PROJECT_REF_AVS = replace(PROJECT_AVSBENCH, conditioning="middle")
_PROTOCOLS = {
    ("released", "avsbench"): RELEASED_AVSBENCH,
    ("released", "ref-avs"): RELEASED_REF_AVS,
    ("project", "avsbench"): PROJECT_AVSBENCH,
    ("project", "ref-avs"): PROJECT_REF_AVS,
}


def protocol_of(name: str = "released", layout: str | None = None, precision: str | None = None) -> Protocol:
    """Find the protocol of a name for a data set.

    Args:
        name: "released" | "project".
        layout: "avsbench" | "ref-avs"; None: the procedural world, which is judged as AVSBench is.
        precision: "bfloat16" | "float32" instead of the protocol's own.
    Raises: DataError for another name, layout or precision.
    """
    if name not in PROTOCOLS:
        raise DataError(f"protocol {name!r} is unknown; choose one of {', '.join(PROTOCOLS)}.")
    found = _PROTOCOLS.get((name, "avsbench" if layout is None else layout))
    if found is None:
        raise DataError(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    return found if precision is None else replace(found, precision=precision)  # type: ignore[arg-type]  # checked there
