"""What the parts of the service agree on: models, tensors, sizes, limits, reason codes. Declared here and nowhere else.

Standard library and numpy alone, so that everyone can read it: the client, which is installed by itself; `export`,
which renders each `config.pbtxt` from it; the stages in the server's Python, which find a copy beside their runtime in
the build; `service` and the load tests. `auralsam2` takes the sizes of the sound and the form of a prompt from it.

A change here changes the wire: raise BUILD_FORMAT, so that a build of an earlier contract is refused by name.

Long because it is one module: what the parts agree on has one place, and is read as a whole.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

# Of a build's manifest. 2: a clip's memory holds binary masks, as in the published network, and errors carry a code.
# 3: frames may come encoded. 4: stages know a clip by a ticket, and a session by an id that the server makes.
BUILD_FORMAT = 4

AURALSAM2 = "auralsam2"
METHODS = (AURALSAM2, "gavs", "sama_avs")
"""The ways in which sound is brought into SAM2."""

# Models, by the names under which the server loads them.
STAGE_NAMES = ("vggish", "hiera", "aural_fuser", "sam2_decoder")
ENSEMBLE = "auralsam2"
SESSION_SUFFIX = "_session"
SESSION = ENSEMBLE + SESSION_SUFFIX
"""Interactive sessions, on a CPU."""
FEATURES_ENSEMBLE = "auralsam2_features"
"""The first three stages, which a session runs once."""
ENCODERS, FUSER, DECODER = STAGE_NAMES[:-1], STAGE_NAMES[-2], STAGE_NAMES[-1]
DECODE, WRITE, PREPARE, READ = "prompt_decode", "memory_write", "memory_prepare", "memory_read_{}"
"""The decoder's parts that track prompts; of the last there is one for each number of remembered frames."""
CLASS_HEAD = "class_head"
"""The decoder's part that names what is in the masks, in builds with classes."""
TEXT_ENCODER, VOCABULARY = "text_encoder", "vocabulary"
"""The fuser's part that reads, in builds with text: its graph, and the words that it knows, in order, as JSON."""
NETWORK = "auralsam2_network"
"""All four stages in one process, behind the ensembles: a layout of builds that compute in PyTorch."""
HANDED_ON = "AUDIO_TOKENS_AFTER_HIERA"
"""AUDIO_TOKENS, in an ensemble, once hiera has handed them on."""

# Sound. A window is 96 hops of 10 ms under 25 ms windows, 0.975 s; windows of consecutive frames are 96 hops apart.
SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 15_600
HOP_SAMPLES = 15_360
WINDOW_S = WINDOW_SAMPLES / SAMPLE_RATE
MAX_SAMPLE = 1.001
"""Of AUDIO on the wire: full scale, and one part in a thousand for rounding."""

# Frames and prompts.
MAX_FRAMES = 16
MASK_STRIDE = 4
"""Masks on the wire have a quarter of the frame's side."""
MAX_POINTS = 16
"""Entries on a frame; a box takes two."""
NUM_CANDIDATES = 3
PADDING, BESIDE, ON, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
"""POINT_LABELS. The corners of a box come first."""
DEFAULT_FRAME = -1
"""PROMPT_FRAME that stands for the model's conditioning frame, as an absent one does."""
COMBINATIONS = ("mean", "best_iou", "union")
"""Of sound and prompts; COMBINATION is the index."""

# Text.
MAX_WORDS = 25
"""Of a sentence: as many are read, as Ref-AVS reads them."""
MAX_TEXT_BYTES = 2048
"""Of TEXT, before it is looked at: far above any sentence of so many words."""

# Clips in flight.
TICKET, TICKET_BYTES = "TICKET", 16

# Sessions.
SESSION_ID, OPENING, END = "SESSION_ID", "OPENING", "END"
MAX_OPENING_BYTES = 64

# Answers.
ANSWERS = {"logits": "MASK_LOGITS", "float16": "MASK_LOGITS_FP16", "bits": "MASK_BITS", "rle": "MASK_RLE"}
"""Forms of the masks, and the output that each comes in; ANSWER is the index."""
MAX_OUTPUT_SIDE = 8192
"""Of OUTPUT_SIZE, in pixels."""

# Clips of the supervisor's own. They are answered as any other, and counted apart.
GOLDEN_CALLER = "golden"


def request_id(caller: str, number: str) -> str:
    """Name a request: stages follow a clip by it, and tell by its beginning whose it is."""
    return f"{caller}-{number}"


GOLDEN_PREFIX = request_id(GOLDEN_CALLER, "")

# Counters of the last stage that others read: frames and clips answered to callers.
FRAMES_METRIC = "auralsam2_frames_total"
CLIPS_METRIC = "auralsam2_clips_total"
# Gauges by which a launcher tells that nobody waits for an answer any more.
IN_FLIGHT_METRIC = "auralsam2_clips_in_flight"
ROUNDS_UNDER_WAY_METRIC = "auralsam2_session_rounds_under_way"

# Of every variable of the environment that is ours.
VARIABLE_PREFIX = "AURALSAM2_"


class Parameter(StrEnum):
    """Parameters in a model's `config.pbtxt`."""

    ENGINE = "engine"
    PRECISION = "precision"
    PRESET = "preset"
    FRAMES_PER_CALL = "frames_per_call"
    SHA256 = "sha256"
    NETWORK = "network"
    """The model beside which the network's weights lie, in builds that compute in PyTorch."""
    CONDITIONING_FRAME = "conditioning_frame"
    MAX_CLIPS_IN_FLIGHT = "max_clips_in_flight"
    CLIP_TIMEOUT_S = "clip_timeout_s"
    ENDS_CLIP = "ends_clip"
    MAX_SESSIONS = "max_sessions"
    MAX_SESSION_BYTES = "max_session_bytes"
    SESSION_IDLE_TIMEOUT_S = "session_idle_timeout_s"
    SESSION_GIVE_WAY_S = "session_give_way_s"
    MAX_ENCODED_FRAME_BYTES = "max_encoded_frame_bytes"
    BUILD_INFO = "build_info"
    """BUILD_INFO as it is answered."""
    CLASS_HEAD_SHA256 = "class_head_sha256"
    """Of the graph beside the decoder's that names what is in the masks; "" where there is none."""
    TEXT_ENCODER_SHA256 = "text_encoder_sha256"
    VOCABULARY_SHA256 = "vocabulary_sha256"
    """Of what reads beside the fuser's graph; "" where nothing does."""
    METHOD = "method"
    """One of METHODS; absent of builds that know AuralSAM2 alone."""

    @property
    def variable(self) -> str:
        """The variable of the environment that overrules the build's own value."""
        return VARIABLE_PREFIX + self.upper()


# Variables that the launcher sets for the stages.
LAUNCH_VARIABLE = VARIABLE_PREFIX + "LAUNCH"
"""What the run's shared memory is named by."""
CACHE_VARIABLE = VARIABLE_PREFIX + "CACHE_DIR"
SECRET_VARIABLE = VARIABLE_PREFIX + "SECRET"
"""What the service's own requests bear in SECRET_PARAMETER, so that stages believe what they say of themselves."""
SECRET_PARAMETER = "auralsam2-secret"
TORCH_VARIABLE = VARIABLE_PREFIX + "TORCH_PATH"
"""Folders in which the server's Python finds PyTorch, after its own."""


def failed_cards_path(mark: str) -> Path:
    """Tell where the stages of a launch note a card that failed: a line of JSON each, with uuid, name and words."""
    return Path("/dev/shm") / f"{mark}failed_cards"


def closing_path(mark: str) -> Path:
    """Tell where a launcher notes, by an empty file, that its server stops: from then on no clip is let in."""
    return Path("/dev/shm") / f"{mark}closing"


def requests_path(mark: str) -> Path:
    """Tell where the stages of a launch say what became of each request: a pipe, a line of JSON each."""
    return Path("/dev/shm") / f"{mark}requests"


class StageRecord(TypedDict, total=False):
    """What one stage says of one request; `key`, `request`, `stage` and `ms` always, the rest where it is so."""

    key: str
    """By what the service knows it, whatever callers call theirs; "" of one that was not let in."""
    request: str
    """The caller's own id for it."""
    stage: str
    ms: float
    """From the request's arrival at the stage to its answer."""
    stages: dict[str, float]
    """Milliseconds by stage, where one model runs several."""
    ends: bool
    """No other stage has it after this one: it was answered, or refused."""
    session: bool
    """A round of a session."""
    round: str
    """The key of the round that this is a part of."""
    golden: bool
    """The service asks itself."""
    caller: str
    frames: int
    mode: str
    """PROMPT_MODE of the answer."""
    total_ms: float
    """Since it was let in."""
    reason: str
    """A `Reason`; absent of what was answered."""
    lost: int
    """Records before this one for which the pipe had no room."""


@dataclass(frozen=True)
class Sizes:
    """What the shapes depend on: T frames, S px a side, C channels, K classes."""

    num_frames: int
    image_size: int
    channels: int
    num_classes: int = 0


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a model. `dtype` by Triton's name: FP32, FP16, UINT8, INT32, BOOL, STRING."""

    name: str
    dtype: str
    shape: tuple[int, ...]


DTYPES: Mapping[str, type[np.generic]] = {
    "FP32": np.float32,
    "FP16": np.float16,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "STRING": np.object_,
}

_MAP = ("T", "C", "S/16", "S/16")
_TENSORS: Mapping[str, tuple[str, tuple[int | str, ...], str]] = {
    "FRAMES": ("UINT8", ("T", "S", "S", 3), "RGB, resized by PIL bicubic"),
    "FRAMES_ENCODED": ("STRING", ("T",), "in place of FRAMES: a JPEG, PNG or WebP file of S x S px a frame"),
    "JPEG_KEEPS_MASKS": ("BOOL", (1,), "never sent: a build that names it was measured, and JPEG keeps its masks"),
    "AUDIO": ("FP32", ("T", WINDOW_SAMPLES, 2), "left and right in [-1, 1]: what each frame hears"),
    "POINT_COORDS": ("FP32", (MAX_POINTS, 2), "x and y in pixels of the frame as it is sent, 0 to S; then padding"),
    "POINT_LABELS": ("INT32", (MAX_POINTS,), "1 on the object, 0 beside it, 2 and 3 corners of a box, -1 padding"),
    "MASK_INPUT": ("FP32", ("S/4", "S/4"), "above 0 inside; stands alone on its frame"),
    "PROMPT_FRAME": ("INT32", (1,), "frame of the prompts; absent or -1: the conditioning frame"),
    "TEXT": ("STRING", (1,), "of builds with text: what is meant, UTF-8, at most 25 words; absent or empty: no text"),
    "USE_AUDIO": ("BOOL", (1,), "absent: true. False: the stages of the sound do no arithmetic"),
    "COMBINATION": ("INT32", (1,), "index in COMBINATIONS; absent: 0"),
    "ANSWER": ("INT32", (1,), "index in ANSWERS: masks in that form alone, without candidates; absent: both logits"),
    "OUTPUT_SIZE": ("INT32", (2,), "of MASK_RLE: height and width in pixels, 1 to 8192 each"),
    "PROPAGATE": ("INT32", (1,), "of a session: 1 tracks to all frames, 0 answers the marked one; absent: 1"),
    "STEP": ("INT32", (1,), "of a session: number of the round, from 0, so that a repeated one counts once"),
    "SESSION_ID": ("STRING", (1,), "of a session: 32 hexadecimal digits of its first answer, in every later round"),
    "OPENING": ("STRING", (1,), "of a session's first round: the same when it is repeated, so that one is opened"),
    "END": ("BOOL", (1,), "of a session: true ends it after this round; absent: false"),
    "TICKET": ("UINT8", (TICKET_BYTES,), "what the stages know a clip by; the first one draws it"),
    "AUDIO_TOKENS": ("FP32", ("T", "C"), "a token for each frame"),
    "HIGH_RES_S4": ("FP32", ("T", "C/8", "S/4", "S/4"), "the decoder's map at stride 4"),
    "HIGH_RES_S8": ("FP32", ("T", "C/4", "S/8", "S/8"), "the decoder's map at stride 8"),
    "PATCHES_1": ("FP32", _MAP, "the fuser's patches of level 0"),
    "PATCHES_2": ("FP32", _MAP, "the fuser's patches of level 1"),
    "IMAGE_EMBEDDING": ("FP32", _MAP, "level 2"),
    "PROMPT_HIGH_RES_S4": (
        "FP32",
        ("T", "C/8", "S/4", "S/4"),
        "of adapters: HIGH_RES_S4 for prompts",
    ),
    "PROMPT_HIGH_RES_S8": (
        "FP32",
        ("T", "C/4", "S/8", "S/8"),
        "of adapters: HIGH_RES_S8 for prompts",
    ),
    "PROMPT_EMBEDDING": ("FP32", _MAP, "of adapters: IMAGE_EMBEDDING for prompts"),
    "ADAPTERS": ("FP32", ("T",), "of adapters: 1 lets them add to the image features, 0 leaves SAM2's own"),
    "TOKENS": ("FP32", ("T+W", "C"), "of builds with text: AUDIO_TOKENS, then the tokens of W words"),
    "PROMPTS_COME": ("BOOL", (1,), "of a session: prompts will be decoded from the features; absent: only those sent"),
    **{f"VISUAL_{stage}": ("FP32", _MAP, f"visual features of fuser stage {stage}") for stage in (1, 2, 3)},
    **{f"SOUND_{stage}": ("FP32", ("T", "C"), f"audio features of fuser stage {stage}") for stage in (1, 2, 3)},
    "MASK_LOGITS": ("FP32", ("T", "S/4", "S/4"), "the selected logits; the mask is where they are above 0"),
    "MASK_LOGITS_FP16": ("FP16", ("T", "S/4", "S/4"), "the selected logits, rounded; above 0 where they are"),
    "MASK_BITS": (
        "UINT8",
        ("T", "S/4", "S/32"),
        "a bit a logit, 1 above 0; eight of a row in a byte, the first highest",
    ),
    "MASK_RLE": ("STRING", ("T",), "counts of COCO's compressed RLE, at OUTPUT_SIZE"),
    "CANDIDATE_LOGITS": ("FP32", ("T", NUM_CANDIDATES, "S/4", "S/4"), "all three candidates"),
    "IOU": ("FP32", ("T", NUM_CANDIDATES), "predicted IoU of each candidate"),
    "OBJECT_SCORE": ("FP32", ("T",), "logit: is any sounding object there"),
    "CLASS_MAP": ("UINT8", ("T", "S/4", "S/4"), "of builds with classes: 1 to K inside the mask, 0 outside"),
    "CLASS_SCORES": ("FP32", ("T", "K"), "of builds with classes, 0 to 1: is the class among what sounds"),
    "PROMPT_MODE": ("STRING", (1,), 'what made the answer: "audio", "points+box", "audio+text"; "ended" of a session'),
    "BUILD_INFO": (
        "STRING",
        (1,),
        "what is served, JSON: build, weights, what they were trained on, precision, engine",
    ),
}

CLIP = ("FRAMES", "AUDIO")
FRAMES, AUDIO, ENCODED_FRAMES, JPEG_KEEPS_MASKS = "FRAMES", "AUDIO", "FRAMES_ENCODED", "JPEG_KEEPS_MASKS"
MIN_JPEG_IOU = 0.995
"""Of masks by JPEG with those by raw frames, measured at export: from here on a build names JPEG_KEEPS_MASKS."""
SPARE_ENCODED_BYTES = 1 << 16
"""An encoded frame may have as many bytes as a raw one, and these for its headers."""
PROMPTS = ("POINT_COORDS", "POINT_LABELS", "MASK_INPUT", "PROMPT_FRAME", "USE_AUDIO", "COMBINATION")
WISHES = ("ANSWER", "OUTPUT_SIZE")
"""What a caller says of the answer's form."""
IMAGE_FEATURES = ("HIGH_RES_S4", "HIGH_RES_S8", "IMAGE_EMBEDDING")
"""What the decoder reads with prompts alone; more of it comes from the sound."""
PROMPT_FEATURES = ("PROMPT_HIGH_RES_S4", "PROMPT_HIGH_RES_S8", "PROMPT_EMBEDDING")
"""Beside IMAGE_FEATURES, in their order, where the sound changes these: what the decoder reads with prompts."""
AUDIO_TOKENS = "AUDIO_TOKENS"
TEXT, TOKENS = "TEXT", "TOKENS"
WORD_NUMBERS, WORD_TOKENS = "WORD_NUMBERS", "WORD_TOKENS"
"""What the text encoder's graph takes, FP32 [1, 25], and gives, FP32 [25, C]."""
ADAPTERS, PROMPTS_COME = "ADAPTERS", "PROMPTS_COME"
SOUND_FEATURES = ("VISUAL_1", "VISUAL_2", "VISUAL_3", "SOUND_1", "SOUND_2", "SOUND_3")
VISUAL_FEATURES = SOUND_FEATURES[:3]
"""Of them, those of the image tokens: all that adapters give, which leave the mask tokens as they are."""
RESULTS = ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE")
USUAL_RESULTS = ("MASK_LOGITS", "IOU", "OBJECT_SCORE")
CLASS_RESULTS = CLASS_MAP, CLASS_SCORES = ("CLASS_MAP", "CLASS_SCORES")
PROMPT_MODE, BUILD_INFO = "PROMPT_MODE", "BUILD_INFO"
SMALL_MASKS = tuple(ANSWERS.values())[1:]
_OF_RUNTIME = (*SMALL_MASKS, PROMPT_MODE)
BESIDE_GRAPH = (*_OF_RUNTIME, TICKET, BUILD_INFO, *PROMPT_FEATURES, *CLASS_RESULTS)
"""What the runtime of the stages makes or reads, and no graph."""
BY_SOUND, ENDED = "audio", "ended"
"""PROMPT_MODE of a clip without prompts, and of a session's end."""


@dataclass(frozen=True)
class Model:
    """What a model of a build for CPUs takes and gives, in the order of its `config.pbtxt`, and its parameters.

    Where it takes FRAMES_ENCODED, FRAMES and AUDIO are optional too, so that its own words say which one is missing: of
    inputs that must come the server only counts how many did.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()


_OF_STAGES = (Parameter.ENGINE, Parameter.PRECISION, Parameter.FRAMES_PER_CALL, Parameter.PRESET, Parameter.SHA256)
_PATCHES = ("PATCHES_1", "PATCHES_2")
_ENCODED = (ENCODED_FRAMES, JPEG_KEEPS_MASKS)

MODELS: Mapping[str, Model] = {
    "vggish": Model(
        ("AUDIO",),
        ("AUDIO_TOKENS", TICKET),
        # Only looked at: bad prompts, wishes and files are refused before the clip costs anything.
        (ENCODED_FRAMES, *PROMPTS, *WISHES),
        (
            *_OF_STAGES,
            Parameter.CONDITIONING_FRAME,
            Parameter.MAX_CLIPS_IN_FLIGHT,
            Parameter.CLIP_TIMEOUT_S,
            Parameter.MAX_ENCODED_FRAME_BYTES,
        ),
    ),
    "hiera": Model(
        ("FRAMES", "AUDIO_TOKENS"),
        ("HIGH_RES_S4", "HIGH_RES_S8", *_PATCHES, "IMAGE_EMBEDDING", "AUDIO_TOKENS"),
        (*_ENCODED, TICKET),
        (*_OF_STAGES, Parameter.MAX_ENCODED_FRAME_BYTES, Parameter.METHOD),
    ),
    "aural_fuser": Model(
        (*_PATCHES, "IMAGE_EMBEDDING", "AUDIO_TOKENS"),
        SOUND_FEATURES,
        ("USE_AUDIO", TICKET),
        (*_OF_STAGES, Parameter.TEXT_ENCODER_SHA256, Parameter.VOCABULARY_SHA256),
    ),
    "sam2_decoder": Model(
        (*IMAGE_FEATURES, *SOUND_FEATURES),
        (*RESULTS, *_OF_RUNTIME, BUILD_INFO),
        (*PROMPTS, *WISHES, TICKET),
        (
            *_OF_STAGES,
            Parameter.CONDITIONING_FRAME,
            Parameter.ENDS_CLIP,
            Parameter.BUILD_INFO,
            Parameter.METHOD,
            Parameter.CLASS_HEAD_SHA256,
        ),
    ),
    NETWORK: Model(
        CLIP,
        # A session goes on with the features.
        (*RESULTS, *_OF_RUNTIME, BUILD_INFO, *IMAGE_FEATURES),
        (*_ENCODED, *PROMPTS, *WISHES),
        (
            *_OF_STAGES,
            Parameter.MAX_CLIPS_IN_FLIGHT,
            Parameter.CLIP_TIMEOUT_S,
            Parameter.ENDS_CLIP,
            Parameter.NETWORK,
            Parameter.MAX_ENCODED_FRAME_BYTES,
            Parameter.BUILD_INFO,
        ),
    ),
    ENSEMBLE: Model(CLIP, (*RESULTS, *_OF_RUNTIME, BUILD_INFO), (*_ENCODED, *PROMPTS, *WISHES)),
    FEATURES_ENSEMBLE: Model(CLIP, (*IMAGE_FEATURES, *SOUND_FEATURES, TICKET), (ENCODED_FRAMES, "USE_AUDIO")),
    SESSION: Model(
        (),
        (*RESULTS, *_OF_RUNTIME, SESSION_ID),
        (*CLIP, ENCODED_FRAMES, *PROMPTS, *WISHES, "PROPAGATE", "STEP", SESSION_ID, OPENING, END),
        (
            Parameter.ENGINE,
            Parameter.PRECISION,
            Parameter.PRESET,
            Parameter.METHOD,
            Parameter.CONDITIONING_FRAME,
            Parameter.MAX_SESSIONS,
            Parameter.MAX_SESSION_BYTES,
            Parameter.SESSION_IDLE_TIMEOUT_S,
            Parameter.SESSION_GIVE_WAY_S,
        ),
    ),
}

# Adapters change what the image encoder gives: it hears, and prompts are decoded from features of their own.
_ADAPTED: Mapping[str, Model] = {
    **MODELS,
    "hiera": Model(
        ("FRAMES", "AUDIO_TOKENS"),
        (*IMAGE_FEATURES, *PROMPT_FEATURES, "AUDIO_TOKENS"),
        (*_ENCODED, TICKET, "USE_AUDIO", "POINT_LABELS", "MASK_INPUT", PROMPTS_COME),
        MODELS["hiera"].parameters,
    ),
    "aural_fuser": Model(
        ("IMAGE_EMBEDDING", "AUDIO_TOKENS"), VISUAL_FEATURES, ("USE_AUDIO", TICKET), MODELS["aural_fuser"].parameters
    ),
    "sam2_decoder": replace(
        MODELS["sam2_decoder"],
        inputs=(*IMAGE_FEATURES, *VISUAL_FEATURES, *PROMPT_FEATURES),
    ),
    FEATURES_ENSEMBLE: Model(
        CLIP,
        (*IMAGE_FEATURES, *VISUAL_FEATURES, *PROMPT_FEATURES, TICKET),
        (ENCODED_FRAMES, "USE_AUDIO", PROMPTS_COME),
    ),
}


# Classes are named after the masks, whatever these were made from.
_WITH_CLASSES: Mapping[str, Model] = {
    name: replace(model, outputs=(*model.outputs, *CLASS_RESULTS)) if name in (DECODER, ENSEMBLE) else model
    for name, model in MODELS.items()
}

_READERS = (STAGE_NAMES[0], FUSER, DECODER, ENSEMBLE)
# Bad text is refused before any work, and the last stage says what made the answer.
_WITH_TEXT: Mapping[str, Model] = {
    name: replace(model, optional=(*model.optional, TEXT)) if name in _READERS else model
    for name, model in MODELS.items()
}


def models_of(method: str, classes: bool = False, text: bool = False) -> Mapping[str, Model]:
    """Give the models of a build of one of METHODS, by name; only AuralSAM2's have classes, or text."""
    if method != AURALSAM2:
        return _ADAPTED
    if text:
        return _WITH_TEXT
    return _WITH_CLASSES if classes else MODELS


class BuildInfo(TypedDict):
    """BUILD_INFO: what is served."""

    build: str
    method: str
    """One of METHODS."""
    classes: str
    """Names of the classes that CLASS_MAP counts from 1, a JSON list; "" of a build without."""
    text: str
    """Whether TEXT is taken: "yes", or "" of a build without."""
    target: str
    engine: str
    precision: str
    weights: str
    """Where they come from, in one sentence."""
    trained_on: str
    """PROCEDURAL_WORLD, NOTHING, or the name of the data; "" where the file does not say."""
    checkpoint_sha256: str
    """Of the file of weights; "" of untrained ones."""
    conditioning_frame: str
    """The frame of a clip that is decoded first, from 0: that of prompts which name none."""


PROCEDURAL_WORLD, NOTHING = "procedural world", "nothing"
"""What weights know that know nothing of real video."""
FROM_PROCEDURAL_WORLD = "made by auralsam2: procedural world"
"""Comment in the header of a video of that world, by which it is told from real ones."""


def tensor(name: str, sizes: Sizes) -> TensorSpec:
    """Give the tensor of a name for clips of these sizes. Raises: KeyError for a name that is not in the contract."""
    dtype, dims, _ = _TENSORS[name]
    return TensorSpec(name, dtype, tuple(_length(dim, sizes) for dim in dims))


def tensors(names: Iterable[str], sizes: Sizes) -> tuple[TensorSpec, ...]:
    """Give the tensors of several names, in their order."""
    return tuple(tensor(name, sizes) for name in names)


def _length(dim: int | str, sizes: Sizes) -> int:
    if isinstance(dim, int):
        return dim
    if dim == "T+W":
        return sizes.num_frames + MAX_WORDS
    letter, _, divisor = dim.partition("/")
    lengths = {"T": sizes.num_frames, "S": sizes.image_size, "C": sizes.channels, "K": sizes.num_classes}
    length = lengths[letter]
    return length // int(divisor or 1)


A = TypeVar("A")


@dataclass(frozen=True, eq=False)
class FramePrompt(Generic[A]):
    """What a person says about one frame: points, a box, or both; or a mask. Never padded.

    A is the kind of its arrays: numpy's on the wire and in the stages, PyTorch's in the network.
    """

    frame: int
    coords: A
    """[P, 2] float32, pixels of the S x S frame, x then y; P from 0 to 16. The two corners of a box come first."""
    labels: A
    """[P]: 0 beside the object, 1 on it, 2 and 3 the top left and bottom right corner of a box."""
    mask: A | None = None
    """[S/4, S/4], above 0 inside."""
    previous: A | None = None
    """[S/4, S/4] logits of an earlier round on this frame, which the points correct."""


def point_tensors(coords: NDArray[Any], labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Put points on the wire: coords [P, 2] and labels [P], P up to 16, as POINT_COORDS and POINT_LABELS."""
    wire_coords, wire_labels = np.zeros((MAX_POINTS, 2), np.float32), np.full(MAX_POINTS, PADDING, np.int32)
    wire_coords[: len(labels)], wire_labels[: len(labels)] = coords, labels
    return {"POINT_COORDS": wire_coords, "POINT_LABELS": wire_labels}


def prompt_tensors(prompt: FramePrompt[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Put a prompt on the wire: only the tensors that it needs. `frame` may be DEFAULT_FRAME."""
    tensors = point_tensors(prompt.coords, prompt.labels) if len(prompt.labels) else {}
    if prompt.mask is not None:
        tensors["MASK_INPUT"] = prompt.mask
    if prompt.frame != DEFAULT_FRAME:
        tensors["PROMPT_FRAME"] = np.array([prompt.frame], np.int32)
    return tensors


class Reason(StrEnum):
    """Why there is no answer. Each has a reaction of its own, and is a label of `auralsam2_rejected_total`."""

    QUEUE_FULL = "queue_full"
    """As many clips are in flight as may be. Repeat after a pause."""
    DEADLINE = "deadline"
    """The answer could not come in the caller's time, so the clip was not let in. Repeat with more time."""
    EXPIRED = "expired"
    """The caller's time was over while the clip waited."""
    CANCELLED = "cancelled"
    """The caller cancelled it."""
    BAD_REQUEST = "bad_request"
    """The caller's tensors are not acceptable. Correct them."""
    SESSION_ENDED = "session_ended"
    """The session is not there (any more). Open another."""
    SESSION_LIMIT = "session_limit"
    """As many sessions are in use as may be kept. End one, or repeat after a pause."""
    UNREADY = "unready"
    """Nobody serves the model: the server starts, stops, or is away. Start it, or repeat after a pause."""
    FAULT = "fault"
    """A fault of the service's own; the server's log has it."""


BUSY = frozenset({Reason.QUEUE_FULL, Reason.DEADLINE, Reason.EXPIRED})
"""Refusals of a clip by a server that is well and works for others."""

STATUS: Mapping[Reason, str] = {
    Reason.QUEUE_FULL: "UNAVAILABLE",
    Reason.DEADLINE: "UNAVAILABLE",
    Reason.EXPIRED: "UNAVAILABLE",
    Reason.CANCELLED: "CANCELLED",
    Reason.BAD_REQUEST: "INVALID_ARGUMENT",
    Reason.SESSION_ENDED: "INVALID_ARGUMENT",
    Reason.SESSION_LIMIT: "UNAVAILABLE",
    Reason.UNREADY: "UNAVAILABLE",
    Reason.FAULT: "INTERNAL",
}
"""gRPC's status of each."""

# The server (2.51) puts the ensemble's name before a stage's words: "in ensemble 'auralsam2', ...".
_CODED = re.compile(r"\A(?:in ensemble '[^']*', )*\[([a-z_]+)\] ")


def error_text(reason: Reason, message: str) -> str:
    """Put an error on the wire: its reason's code, then words for people."""
    return f"[{reason}] {message}"


def read_error(text: str) -> tuple[Reason | None, str]:
    """Take an error off the wire: its reason, and the words alone.

    The reason is None for words that are not of the stages, or whose code is not known here.
    """
    found = _CODED.match(text)
    if found is None:
        return None, text
    code = found[1]
    return (Reason(code) if code in set(Reason) else None), text[found.end() :]
