"""The four stages of a clip as one module, captured as one graph; and of hiera alone, for clips that nobody hears."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import CLIP, IMAGE_FEATURES, RESULTS, STAGE_NAMES, TensorSpec

from .device.captured import Captured
from .device.lanes import Mark
from .first_calls import compile_parts
from .network import Network
from .placing import Placing


class WholeClip(nn.Module):
    """vggish, hiera, aural_fuser, sam2_decoder one after the other; between them tensors keep the stages' own type."""

    def __init__(self, stages: Sequence[Stage], modules: Sequence[nn.Module], marks: Sequence[Mark]) -> None:
        """`marks`: one before the first stage, and one after each."""
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self._marks = list(marks)
        self._inputs = [[spec.name for spec in stage.inputs] for stage in stages]
        self._outputs = [[spec.name for spec in stage.outputs] for stage in stages]

    def forward(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, ...]:
        """Answer frames [T, S, S, 3] uint8 and audio [T, 15600, 2] with RESULTS, float32, and IMAGE_FEATURES."""
        known = {"FRAMES": frames, "AUDIO": audio}
        self._marks[0].note()
        for part, inputs, outputs, mark in zip(self.parts, self._inputs, self._outputs, self._marks[1:], strict=True):
            answer = part(*(known[name] for name in inputs))
            # As between models of their own: an operator adds in another order where its input lies otherwise.
            known |= zip(outputs, (value.contiguous() for value in answer), strict=True)
            mark.note()
        return (*(known[name].float() for name in RESULTS), *(known[name] for name in IMAGE_FEATURES))


class ImageFeatures(nn.Module):
    """Hiera alone: what prompts are decoded from."""

    def __init__(self, stage: Stage, module: nn.Module) -> None:
        super().__init__()
        self.part = module
        names = [spec.name for spec in stage.outputs]
        self._places = [names.index(name) for name in IMAGE_FEATURES]

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Encode frames [T, S, S, 3] uint8 as IMAGE_FEATURES."""
        answer = self.part(frames)
        return tuple(answer[place].contiguous() for place in self._places)


class ClipGraphs:
    """Both ways through the network, on one device, captured. Calls are not re-entrant."""

    def __init__(self, network: Network, placing: Placing, report: Callable[[str], None] = lambda line: None) -> None:
        """Place and capture the network. `report`: gets a line before each part that is compiled."""
        stages = network.stages()
        ordered = [stages[name] for name in STAGE_NAMES]
        modules = [placing.module(stage) for stage in ordered]
        self._ordered = ordered
        self._marks = [Mark(placing.device, timed=True, in_graph=True) for _ in range(len(ordered) + 1)]
        frames, audio, *features = _specs(ordered, (*CLIP, *IMAGE_FEATURES))
        results = _specs(ordered, RESULTS)
        whole = WholeClip(ordered, modules, self._marks)
        if placing.device.type == "cuda":
            compile_parts(ordered, modules, placing.device, report)
        hiera = STAGE_NAMES.index("hiera")
        self.by_sound: Captured = placing.capture(whole, (frames, audio), (*results, *features))
        """FRAMES and AUDIO to RESULTS and IMAGE_FEATURES."""
        self.by_sight: Captured = placing.capture(
            ImageFeatures(ordered[hiera], modules[hiera]), (frames,), tuple(features)
        )
        """FRAMES to IMAGE_FEATURES."""

    def clip_specs(self) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Describe what comes in from a caller, and what goes back."""
        return _specs(self._ordered, CLIP), _specs(self._ordered, RESULTS)

    def stage_seconds(self) -> dict[str, float]:
        """Tell what each stage took of the last clip by sound, once that is done."""
        pairs = zip(STAGE_NAMES, self._marks[:-1], self._marks[1:], strict=True)
        return {name: after.seconds_since(before) for name, before, after in pairs}


def _specs(stages: Sequence[Stage], names: Sequence[str]) -> list[TensorSpec]:
    known = {spec.name: spec for stage in stages for spec in (*stage.inputs, *stage.outputs)}
    return [known[name] for name in names]
