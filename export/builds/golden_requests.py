"""What a server is asked beside the golden clip by sound: every mode of prompts, and a session.

Each is one path that a caller's clip may take. It is asked on the golden clip, with marks on one thing that is seen
there, and its right answer is the network's; the graphs' tells by how much another order of sums may move it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompted_tracker import track_prompts
from auralsam2_client.contract import (
    BESIDE,
    BOTTOM_RIGHT,
    BY_SOUND,
    IMAGE_FEATURES,
    MASK_STRIDE,
    ON,
    TOP_LEFT,
    USUAL_RESULTS,
    FramePrompt,
    prompt_tensors,
)
from export.gates.golden_pair import GoldenPair
from export.gates.sample_clip import sample_thing
from export.gates.stage_gate import GateResult
from export.gates.text_gate import SENTENCE
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array
from model_repository.stage_runtime.prompts.memory import Kept
from model_repository.stage_runtime.prompts.reading import ClipSize, Prompt, mode_of, read_round
from model_repository.stage_runtime.sessions.rounds import Session, SessionDecoder

SESSION, FIRST, CORRECTED = "session", "session/first", "session/corrected"


@dataclass(frozen=True, eq=False)
class GoldenRound:
    """One question, and the name of its answer: rounds that have to answer alike share one."""

    answer: str
    mode: str
    points: tuple[tuple[int, int, int], ...] = ()
    """x and y in pixels of the S x S frame, and the label: 1 on the thing, 0 beside it."""
    box: tuple[int, int, int, int] | None = None
    mask: Array | None = None
    """[S, S] bool; every cell of 4 x 4 px is all inside or all outside."""
    frame: int = 0
    propagate: bool = True
    text: str = ""
    """Of `text_requests`."""

    def prompt(self) -> Prompt | None:
        """Give its prompt as the wire has it; None where it marks nothing."""
        corners = () if self.box is None else ((*self.box[:2], TOP_LEFT), (*self.box[2:], BOTTOM_RIGHT))
        entries = (*corners, *self.points)
        if not entries and self.mask is None:
            return None
        mask = None
        if self.mask is not None:
            mask = np.where(self.mask[::MASK_STRIDE, ::MASK_STRIDE], np.float32(1), np.float32(-1))
        coords = np.array([entry[:2] for entry in entries], np.float32).reshape(-1, 2)
        return FramePrompt(self.frame, coords, np.array([entry[2] for entry in entries], np.int32), mask)

    def tensors(self, use_audio: bool) -> dict[str, Array]:
        """Name what is sent for it beside the clip."""
        prompt = self.prompt()
        tensors: dict[str, Array] = {} if prompt is None else dict(prompt_tensors(prompt))
        if not use_audio:
            tensors["USE_AUDIO"] = np.array([False])
        return tensors if self.propagate else tensors | {"PROPAGATE": np.array([0], np.int32)}


@dataclass(frozen=True, eq=False)
class GoldenRequest:
    """One path: a request of a single round, or a session of several."""

    path: str
    use_audio: bool
    rounds: tuple[GoldenRound, ...]
    in_session: bool = False


def golden_requests(num_frames: int, image_size: int) -> tuple[GoldenRequest, ...]:
    """List all paths but that by sound alone. Marks lie on the first, the middle and the last frame of the clip."""
    first, middle, last = 0, num_frames // 2, num_frames - 1
    point = _on(sample_thing(num_frames, image_size, first))
    asked: dict[tuple[str, ...], dict[str, Any]] = {
        ("points",): {"points": (point,), "frame": first},
        ("box",): {"box": _around(sample_thing(num_frames, image_size, middle)), "frame": middle},
        ("mask",): {"mask": _in_cells(sample_thing(num_frames, image_size, last)), "frame": last},
        ("points", "box"): {
            "points": (_on(sample_thing(num_frames, image_size, middle)),),
            "box": _around(sample_thing(num_frames, image_size, middle)),
            "frame": middle,
        },
    }
    found = []
    for use_audio in (False, True):
        for kinds, marks in asked.items():
            path = mode_of(use_audio, set(kinds))
            found.append(GoldenRequest(path, use_audio, (GoldenRound(path, path, **marks),)))
    clicked = mode_of(True, {"points"})
    beside = (*_around(sample_thing(num_frames, image_size, first))[:2], BESIDE)
    rounds = (
        GoldenRound(BY_SOUND, BY_SOUND),
        GoldenRound(FIRST, clicked, points=(point,), frame=first, propagate=False),
        # A click that is tracked afterwards ends where one that is tracked at once does.
        GoldenRound(clicked, clicked),
        GoldenRound(CORRECTED, clicked, points=(beside,), frame=first),
    )
    return (*found, GoldenRequest(SESSION, True, rounds, in_session=True))


def text_requests() -> tuple[GoldenRequest, ...]:
    """List the paths of a sentence, with the sound and without; the gate of text makes their answers."""
    paths = {use_audio: mode_of(use_audio, set(), says=True) for use_audio in (True, False)}
    return tuple(
        GoldenRequest(path, use_audio, (GoldenRound(path, path, text=SENTENCE),)) for use_audio, path in paths.items()
    )


def answer_requests(
    requests: Sequence[GoldenRequest],
    decoder: SessionDecoder,
    features: Mapping[bool, Mapping[str, Array]],
    heard: Mapping[str, Array],
    clip: ClipSize,
) -> dict[str, dict[str, Array]]:
    """Answer golden requests as a server's stages do; the usual results by the name of the answer.

    Args:
        features: HIGH_RES_S4, HIGH_RES_S8 and IMAGE_EMBEDDING of the clip, by whether the sound is used; `heard`: the
            answer to it by sound.
    """
    answers: dict[str, dict[str, Array]] = {}
    alike = features[True] is features[False]
    once = _Remembering(decoder)
    decoders = {False: once, True: once if alike else _Remembering(decoder)}
    for request in requests:
        used = request.use_audio
        session = Session(features[used], heard if used else None, decoders[used], clip)
        for asked in request.rounds:
            found = session.round(read_round(asked.tensors(request.use_audio), clip))
            answers.setdefault(asked.answer, {name: np.array(found[name], np.float32) for name in USUAL_RESULTS})
    answers.pop(BY_SOUND, None)
    return answers


def golden_pairs(
    settings: ExportSettings, model: SoundingSAM2, decoder: SessionDecoder, result: GateResult
) -> list[GoldenPair]:
    """Answer the golden requests by the network, and by the graphs' `decoder` on what the graphs made of the clip."""
    requests = golden_requests(settings.num_frames, settings.size)
    clip = ClipSize(settings.num_frames, settings.size, settings.conditioning_frame)
    beside, alone = result.features, result.unheard
    of_network, of_graphs = {True: beside.network, False: alone.network}, {True: beside.graphs, False: alone.graphs}
    wanted = answer_requests(requests, NetworkDecoder(model), of_network, result.network, clip)
    found = answer_requests(requests, decoder, of_graphs, result.graphs, clip)
    return [GoldenPair(name, wanted[name], found[name]) for name in wanted]


class NetworkDecoder:
    """The network's own tracker of prompts, in PyTorch, as sessions call a decoder."""

    def __init__(self, model: SoundingSAM2) -> None:
        self._sam = model.v_model
        self._positions, self._dense = model.positions(), mask_decoder.dense_positions(model.v_model)

    def keep(self) -> Kept:
        """Make a store that stays empty: each call computes all of it."""
        return Kept(0)

    def __call__(
        self, features: Mapping[str, Array], prompts: Sequence[Prompt], kept: Kept | None = None
    ) -> dict[str, Array]:
        """Segment what the prompts point at in every frame, as `PromptedDecoder` does."""
        image = ImageFeatures(*(torch.from_numpy(features[name]) for name in IMAGE_FEATURES))
        with torch.no_grad():
            found = track_prompts(self._sam, image, [_in_pytorch(p) for p in prompts], self._positions, self._dense)
        return {
            "MASK_LOGITS": found.masks.numpy(),
            "CANDIDATE_LOGITS": found.low_res_logits.numpy(),
            "IOU": found.iou.numpy(),
            "OBJECT_SCORE": found.object_score[:, 0].numpy(),
        }

    def alone(self, features: Mapping[str, Array], prompt: Prompt) -> dict[str, Array]:
        """Decode the prompted frame alone: a clip of that one frame."""
        frame = slice(prompt.frame, prompt.frame + 1)
        return self({name: value[frame] for name, value in features.items()}, [replace(prompt, frame=0)])


class _Remembering:
    """A decoder that computes what it was asked before only once: with sound and without, the prompts are the same."""

    def __init__(self, decoder: SessionDecoder) -> None:
        self._decoder = decoder
        self._known: dict[bytes, dict[str, Array]] = {}

    def keep(self) -> Kept:
        return self._decoder.keep()

    def __call__(self, features: Mapping[str, Array], prompts: Sequence[Prompt], kept: Kept) -> dict[str, Array]:
        key = b"|".join(_key(prompt) for prompt in prompts)
        if key not in self._known:
            self._known[key] = self._decoder(features, prompts, kept)
        return self._known[key]

    def alone(self, features: Mapping[str, Array], prompt: Prompt) -> dict[str, Array]:
        return self._decoder.alone(features, prompt)


def _key(prompt: Prompt) -> bytes:
    parts: Iterator[Any] = (part for part in (prompt.mask, prompt.previous) if part is not None)
    return bytes([prompt.frame]) + b"".join(
        np.ascontiguousarray(part).tobytes() for part in (prompt.coords, prompt.labels, *parts)
    )


def _in_pytorch(prompt: Prompt) -> FramePrompt[torch.Tensor]:
    def tensor(value: Array | None) -> torch.Tensor | None:
        return None if value is None else torch.from_numpy(np.array(value, np.float32))

    coords, labels = torch.from_numpy(prompt.coords), torch.from_numpy(prompt.labels).long()
    return FramePrompt(prompt.frame, coords, labels, tensor(prompt.mask), tensor(prompt.previous))


def _on(thing: Array) -> tuple[int, int, int]:
    """A point on a thing: of its pixels, that nearest to their middle."""
    rows, columns = np.nonzero(thing)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return int(columns[nearest]), int(rows[nearest]), ON


def _around(thing: Array) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(thing)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _in_cells(thing: Array) -> Array:
    """A thing in whole cells of the wire's masks: those whose middle it covers."""
    cells = thing[MASK_STRIDE // 2 :: MASK_STRIDE, MASK_STRIDE // 2 :: MASK_STRIDE]
    return np.asarray(np.repeat(np.repeat(cells, MASK_STRIDE, axis=0), MASK_STRIDE, axis=1))
