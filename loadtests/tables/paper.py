"""The numbers that the paper prints, each marked as its authors'. Nothing here was measured by this project.

Source: AuralSAM2 (arXiv 2506.01015) and its supplementary material: Tables 1, 4, 5 and 8, and Figure 1. Frames a second
are of the authors' GPU, which no machine here is: they say how methods compare there.
"""

from dataclasses import dataclass

from auralsam2_client.contract import AURALSAM2

GPU = "the authors' GPU, which this machine is not"
WITH_SAM2 = " (w/ SAM2)"
METHODS = {"SAM2": AURALSAM2, "GAVS": "gavs", "SAMA-AVS": "sama_avs", "AuralSAM2": AURALSAM2}
"""Names in the paper, and whose build answers here. SAM2 alone is AuralSAM2's without sound."""


@dataclass(frozen=True)
class Row:
    """A row of Table 1: AVSBench V1M, Hiera-B+."""

    name: str
    prompts: str
    m_j: float
    m_f: float
    fps: float

    @property
    def method(self) -> str:
        """Whose build answers it here."""
        return METHODS[self.name.removesuffix(WITH_SAM2)]

    @property
    def key(self) -> str:
        """Names it in files of figures."""
        return f"{self.name}, {self.prompts}"


TABLE_1 = (
    Row("SAM2", "points", 64.67, 72.15, 17.8),
    Row("SAM2", "box", 68.85, 76.52, 17.4),
    Row("SAM2", "mask", 75.73, 81.54, 16.9),
    Row("SAM2", "points+box", 72.64, 79.56, 17.2),
    Row("GAVS", "points+box", 69.34, 77.32, 16.9),
    Row("SAMA-AVS", "points+box", 70.25, 78.54, 17.0),
    Row("AuralSAM2", "points+box", 72.64, 79.56, 17.2),
    Row("GAVS", "audio", 68.13, 79.07, 14.8),
    Row("SAMA-AVS", "audio", 67.70, 78.93, 16.3),
    Row("AuralSAM2", "audio", 72.04, 81.46, 16.4),
    Row("GAVS (w/ SAM2)", "audio+points+box", 71.70, 81.94, 8.7),
    Row("SAMA-AVS (w/ SAM2)", "audio+points+box", 69.74, 80.97, 9.9),
    Row("AuralSAM2 (w/ SAM2)", "audio+points+box", 74.26, 83.58, 14.1),
)
BESIDE = "AuralSAM2, audio"
"""The row whose frames a second the others are held against."""

FIGURE_1 = {"sound": (47.24, 55.73), "text": (47.24 + 5.71, None), "both": (47.24 + 5.71 + 3.21, None)}
"""Ref-AVS, seen, Hiera-L: what is given beside the picture -> J, F. The paper prints the first J and F, and then what
each adds: 5.71 J by text in place of sound, 3.21 J and 2.34 F more by both."""
TABLE_4 = {"m_j": (71.98, 0.09), "m_f": (81.41, 0.07)}
"""Mean and spread over so many seeds:"""
TABLE_4_SEEDS = 5
TABLE_5 = {1024: (75.58, 84.12), 512: (74.04, 83.79), 224: (71.49, 80.58)}
"""Hiera-L: pixels a side -> M_J, M_F."""
TABLE_8 = {"gavs": (19.14, 2.9), "sama_avs": (20.09, 3.2), AURALSAM2: (18.94, 2.6)}
"""Hiera-B+ on an RTX 4090: GB at the peak, and hours of training. AuralSAM2 with Hiera-L: 20.61 GB, 3.7 h."""
