"""What an export is asked for. Same settings, same name of the build."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from auralsam2 import checkpoints
from auralsam2.model.shipped import fingerprint, shipped_class_head, shipped_text_weights, shipped_weights
from auralsam2.network.readout import READ_OUTS, ReadOut
from auralsam2.presets import check_image_size, preset
from auralsam2_client.contract import AURALSAM2, MAX_FRAMES, METHODS, NOTHING, BuildInfo
from export.errors import ExportError
from model_repository.stage_runtime.engine import AUTO, ENGINES, INT8, OPENVINO_PRECISION, file_sha256

TARGETS = ("cpu", "cuda", "onnx-gpu", "tensorrt", "tensorrt-rtx")
# Where adapters run in stages of their own; the network in PyTorch knows AuralSAM2's alone.
ADAPTED_TARGETS = ("cpu", "onnx-gpu", "tensorrt", "tensorrt-rtx")
# Whose stages run in Python: they know prompts and sessions.
IN_PYTHON = ("cpu", "cuda")
PYTORCH = "pytorch"
DEVICES = ("cuda", "cpu")
ONE_PROCESS, ENSEMBLE_LAYOUT = LAYOUTS = ("one-process", "ensemble")
# What builds the engines of a target, by the name of its package.
ENGINE_FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
ENGINE_PRECISIONS = ("float16", "bfloat16", "float32")
FUSIONS = ("native", "plugin")
DETERMINISTIC_SEED = 51


@dataclass(frozen=True)
class ExportSettings:
    """One export, checked when made. Raises ExportError or NetworkError naming the value, the limit and the way out."""

    preset: str = "compact"
    image_size: int | None = None
    """px; the preset's own when None."""
    num_frames: int = 5
    """T, 1 to 16: 5 for AVSBench clips, 10 for V2 and Ref-AVS."""
    checkpoint: str | None = None
    """Path or hf:// reference; None: the weights shipped with the preset, or, where there are none, deterministic ones,
    whose masks mean nothing."""
    sam2_checkpoint: str | None = None
    """SAM2's own file, for a checkpoint that holds the fuser alone."""
    conditioning_frame: int = None  # type: ignore[assignment]  # None until `__post_init__`
    """Frame that is decoded first; None: 0, of a build with text T // 2, as its weights were taught."""
    read_out: ReadOut = "iou_occlusion"
    target: str = "cpu"
    """cpu: the embedded server | cuda: PyTorch on this machine's card | onnx-gpu: a GPU server's ONNX Runtime backend,
    with TensorRT, then CUDA | tensorrt: engines for the GPU of this machine | tensorrt-rtx: engines for named cards,
    made without a GPU."""
    engine: str = "openvino"
    """On a CPU; what goes to a GPU is compared on ONNX Runtime."""
    precision: str = "auto"
    """auto: float16 for engines; on a CPU bfloat16 where the CPU has it and the gate lets it pass, else float32."""
    fusion: str = "native"
    """The audio-visual fusion of an engine: native operators, or plugin: the fused kernels (tensorrt only)."""
    capabilities: tuple[int, ...] = ()
    """Compute capabilities of tensorrt-rtx, e.g. (89, 120); empty: this machine's card."""
    device: str = "cuda"
    """Of target cuda: where its stages compute. cpu: the same modules without a card, in float32."""
    layout: str = ONE_PROCESS
    """Of target cuda. one-process: one model has all four stages | ensemble: each stage is a model of its own."""
    report: bool = False
    """Write how float16 and bfloat16 compare with float32 into the build: precision_report.md and .json."""
    method: str = AURALSAM2
    """auralsam2 | gavs | sama_avs; the checkpoint must hold its weights."""
    classes: bool = False
    """Name what is in the masks, on a CPU: by `class_head`."""
    class_head: str | None = None
    """File or hf:// reference of a class head that was trained on the checkpoint's masks; None: the one shipped."""
    text: bool = False
    """Take text beside the sound, on a CPU; the checkpoint must hold fuser and text encoder."""

    def __post_init__(self) -> None:
        sizes = preset(self.preset)
        if self.image_size is None:
            object.__setattr__(self, "image_size", sizes.default_image_size)
        check_image_size(self.size)
        if not 1 <= self.num_frames <= MAX_FRAMES:
            raise ExportError(f"num_frames {self.num_frames}; a clip holds 1 to {MAX_FRAMES} frames.")
        if self.conditioning_frame is None:
            object.__setattr__(self, "conditioning_frame", self._usual_conditioning_frame)
        if not 0 <= self.conditioning_frame < self.num_frames:
            raise ExportError(
                f"conditioning_frame {self.conditioning_frame} is outside a clip of {self.num_frames} frames; choose 0"
                f" to {self.num_frames - 1}."
            )
        self._check_method()
        self._check_classes()
        self._check_text()
        if self.read_out not in READ_OUTS:
            raise ExportError(f"read_out {self.read_out!r} is unknown; choose one of {', '.join(READ_OUTS)}.")
        if self.target not in TARGETS:
            raise ExportError(f"target {self.target!r} is unknown; choose one of {', '.join(TARGETS)}.")
        if self.target == "cuda":
            object.__setattr__(self, "engine", PYTORCH)
        elif self.target != "cpu":
            object.__setattr__(self, "engine", "onnxruntime")
        if self.engine not in ENGINES and self.target != "cuda":
            raise ExportError(f"engine {self.engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
        for name, known in (("device", DEVICES), ("layout", LAYOUTS)):
            value = getattr(self, name)
            if value not in known:
                raise ExportError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}.")
            if self.target != "cuda" and value != known[0]:
                raise ExportError(f"{name} {value!r} is for target cuda, not {self.target}.")
        self._check_precision()
        if self.fusion not in FUSIONS:
            raise ExportError(f"fusion {self.fusion!r} is unknown; choose one of {', '.join(FUSIONS)}.")
        if self.fusion == "plugin" and self.target != "tensorrt":
            raise ExportError(f"fusion 'plugin' needs target tensorrt, not {self.target}; others run it natively.")
        if self.capabilities and self.flavour is None:
            raise ExportError(f"a compute capability was given for target {self.target}, which builds no engines.")
        if self.sam2_checkpoint is not None and self.checkpoint is None:
            raise ExportError("sam2_checkpoint was given without checkpoint; give the fuser's file as checkpoint too.")

    def _check_method(self) -> None:
        if self.method not in METHODS:
            raise ExportError(f"method {self.method!r} is unknown; choose one of {', '.join(METHODS)}.")
        if self.method == AURALSAM2:
            return
        if self.target not in ADAPTED_TARGETS:
            known = ", ".join(ADAPTED_TARGETS)
            raise ExportError(f"target {self.target!r} serves method {AURALSAM2} alone; for {self.method}: {known}.")
        if self.precision == INT8:
            raise ExportError(f"precision 'int8' was measured of method {AURALSAM2} alone, not of {self.method}.")
        if self.report:
            raise ExportError(f"a report of precisions is written of method {AURALSAM2} alone, not of {self.method}.")

    def _check_classes(self) -> None:
        if self.class_head is not None and not self.classes:
            raise ExportError("class_head was given without classes; give --classes too.")
        if not self.classes:
            return
        if self.target != "cpu" or self.method != AURALSAM2:
            raise ExportError(
                f"classes with target {self.target}, method {self.method}; they are named by builds for target cpu of"
                f" method {AURALSAM2}. Leave --classes out."
            )
        if self.class_head_file is None:
            raise ExportError(f"no class head is shipped for preset {self.preset!r}; give one with --class-head.")

    def _check_text(self) -> None:
        if not self.text:
            return
        if self.target != "cpu" or self.method != AURALSAM2:
            raise ExportError(
                f"text with target {self.target}, method {self.method}; it is taken by builds for target cpu of method"
                f" {AURALSAM2}. Leave --text out."
            )
        if self.classes:
            raise ExportError(
                "text and classes in one build; class heads know no masks by text. Leave one of them out."
            )
        if self.precision == INT8 or self.report:
            what = "precision 'int8'" if self.precision == INT8 else "a report of precisions"
            raise ExportError(f"{what} of a build with text; it was measured of builds without. Leave one of them out.")
        if self.checkpoint is None and shipped_text_weights(self.preset) is None:
            raise ExportError(
                f"no weights that read text are shipped for preset {self.preset!r}; give a file of fuser and text"
                " encoder with --checkpoint (auralsam2.training.after.text_tuning makes one), or leave --text out."
            )

    @property
    def _usual_conditioning_frame(self) -> int:
        return self.num_frames // 2 if self.text else 0

    def _check_precision(self) -> None:
        if self.precision == AUTO and self.engine != "openvino":
            narrow = self.flavour is not None or self.on_card
            object.__setattr__(self, "precision", ENGINE_PRECISIONS[0] if narrow else "float32")
        allowed: tuple[str, ...] = (AUTO, *OPENVINO_PRECISION, INT8) if self.engine == "openvino" else ("float32",)
        what = self.engine
        if self.flavour is not None or self.on_card:
            allowed, what = ENGINE_PRECISIONS, self.target
        elif self.target == "cuda":
            what = "target cuda on device cpu"
        if self.precision not in allowed:
            raise ExportError(f"precision {self.precision!r}; {what} computes in {', '.join(allowed)}.")

    @property
    def flavour(self) -> str | None:
        """The package that builds this target's engines; None where graphs are served as they are."""
        return ENGINE_FLAVOURS.get(self.target)

    @property
    def on_card(self) -> bool:
        """Whether PyTorch computes on a card of this machine."""
        return self.target == "cuda" and self.device == "cuda"

    @property
    def in_python(self) -> bool:
        """Whether the stages run in Python, and so know prompts and sessions."""
        return self.target in IN_PYTHON

    @property
    def size(self) -> int:
        assert self.image_size is not None
        return self.image_size

    @property
    def name(self) -> str:
        """The build's name, from everything that changes what it computes."""
        method = () if self.method == AURALSAM2 else (self.method.replace("_", "-"),)
        parts = [self.preset, *method, str(self.size), f"t{self.num_frames}"]
        parts += [_short(reference) for reference in (self.checkpoint, self.sam2_checkpoint) if reference is not None]
        if self.classes:
            parts.append("classes" if self.class_head is None else f"classes-{_short(self.class_head)}")
        if self.text:
            parts.append("text")
        if self.conditioning_frame != self._usual_conditioning_frame:
            parts.append(f"cond{self.conditioning_frame}")
        if self.read_out != "iou_occlusion":
            parts.append(self.read_out.replace("_", "-"))
        engine = self.engine if self.target == "cpu" else self.target
        usual = AUTO if engine == "openvino" else "float16" if self.on_card else "float32"
        choices = [(engine, "openvino"), (self.precision, usual), (self.fusion, "native")]
        choices += [(self.device, DEVICES[0]), (self.layout, LAYOUTS[0])]
        parts += [value for value, usual in choices if value != usual]
        parts += [f"sm{capability}" for capability in self.capabilities]
        return "-".join(parts)

    @property
    def weights_file(self) -> str | None:
        """The checkpoint that is loaded, given or shipped; None: deterministic weights."""
        if self.checkpoint is not None:
            return self.checkpoint
        shipped = self._shipped
        return None if shipped is None else str(shipped)

    @property
    def _shipped(self) -> Path | None:
        return shipped_text_weights(self.preset) if self.text else shipped_weights(self.preset, self.method)

    @property
    def sam2_file(self) -> str | None:
        """The file of SAM2's own weights, given or shipped; None: they are in the checkpoint."""
        if self.checkpoint is None and self.method != AURALSAM2:
            beside = shipped_weights(self.preset)
            return None if beside is None else str(beside)
        if self.text and self.sam2_checkpoint is None and self.weights_file is not None:
            beside = shipped_weights(self.preset)
            alone = not checkpoints.is_whole(checkpoints.read(self.weights_file))
            return str(beside) if alone and beside is not None else None
        return self.sam2_checkpoint

    @property
    def class_head_file(self) -> str | None:
        """The class head that is loaded, given or shipped."""
        if self.class_head is not None:
            return self.class_head
        shipped = shipped_class_head(self.preset)
        return None if shipped is None else str(shipped)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, as the head's file has them; none of a build without. Raises: CheckpointError."""
        return () if not self.classes or self.class_head_file is None else checkpoints.class_names(self.class_head_file)

    @property
    def trained_on(self) -> str:
        """What the weights know, as their file says it; "" where it does not."""
        return NOTHING if self.weights_file is None else checkpoints.trained_on(self.weights_file)

    def build_info(self, precision: str) -> BuildInfo:
        """Tell callers what is served. `precision`: what the stages compute in."""
        file = self.weights_file
        return {
            "build": self.name,
            "method": self.method,
            "classes": json.dumps(self.class_names) if self.classes else "",
            "text": "yes" if self.text else "",
            "target": self.target,
            "engine": self.engine,
            "precision": precision,
            "weights": self.weights_sentence,
            "trained_on": self.trained_on,
            "checkpoint_sha256": "" if file is None else file_sha256(checkpoints.fetch(file)),
            "conditioning_frame": str(self.conditioning_frame),
        }

    @property
    def weights_sentence(self) -> str:
        """Where the weights come from, in one plain line for people."""
        if self.checkpoint is not None:
            return f"Weights from {Path(self.checkpoint).name}."
        shipped = self._shipped
        if shipped is not None:
            return f"Weights trained on the procedural world, shipped as {shipped.name} ({fingerprint(shipped)})."
        return f"Untrained weights (seed {DETERMINISTIC_SEED}): the masks show that it runs, not what sounds."


def _short(reference: str) -> str:
    """A checkpoint's part of the build's name: the file's stem, and the revision of a hub reference."""
    path, revision = reference, ""
    if reference.startswith(checkpoints.HUB_SCHEME):
        path, _, revision = reference.partition("@")
    return "-".join(filter(None, (Path(path).stem, re.sub(r"[^\w.-]", "-", revision))))
