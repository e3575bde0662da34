"""The whole network in one process: the model behind the ensembles of a build in the layout "one-process"."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import triton_python_backend_utils as pb_utils
from torch import Tensor

from auralsam2_client.contract import (
    AUDIO,
    CLIP,
    ENCODED_FRAMES,
    FRAMES,
    IMAGE_FEATURES,
    JPEG_KEEPS_MASKS,
    LAUNCH_VARIABLE,
    Reason,
)

from ..adapter import (
    CANCELLED,
    FAULT,
    answer_request,
    encoded_frames,
    optional_inputs,
    prompts_of,
    read_optional,
    refuse_request,
    tensor_shapes,
    told_by,
)
from ..admission.asker import Asker
from ..admission.clip_table import ClipTable, table_path
from ..admission.passage import Clip, Passage, Role
from ..admission.telemetry import Telemetry
from ..engine import Array
from ..engine.full_scale import check_full_scale, check_sound_came
from ..engine.refusals import NotAdmitted, Refusal
from ..forms.masks import in_form
from ..forms.wish import Wish, read_wish
from ..frames.stages import take_frames
from ..prompts.reading import Asked, ClipSize, read_prompts
from ..reception import Reception
from .answering import ClipAnswers
from .card_frames import HOST_DECODED, frames_on_card
from .card_stage import check_given
from .device.flight import NUM_SLOTS, Flight, Slot, Worker
from .loading import load_placed
from .prompted import load_prompted_decoder
from .tensors import read_tensor, write_tensor
from .whole_clip import ClipGraphs

OF_CLIP = (*CLIP, ENCODED_FRAMES)


@dataclass
class Job:
    """One request on its way."""

    request: Any
    sender: Any
    clip: Clip
    heard: Mapping[str, Array]
    """AUDIO, where it came."""
    asked: Asked
    wish: Wish
    slot: Slot
    features: bool
    """Asked for by a session, which goes on with them."""
    answer: dict[str, Any]
    coming: Sequence[str] = ()
    """Of RESULTS, what is still on its way from the device."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage."""


class NetworkModel:
    """Answers each request by itself, two of them in flight; see `flight`. Refusals are those of the stages."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the network, compile and capture it. Any failure stops the server's start."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._name = args["model_name"]
        beside = (*OF_CLIP, JPEG_KEEPS_MASKS)
        self._optional = [name for name in optional_inputs(config) if name not in beside]
        placed = load_placed(args, parameters, self._say)
        self._card = placed.card
        placed.compiled.read()
        graphs = ClipGraphs(placed.network, placed.placing, self._say)
        description = placed.network.description
        flight = Flight(*graphs.clip_specs(), placed.placing.device, NUM_SLOTS)
        self._flight = flight
        self._answers = ClipAnswers(graphs, load_prompted_decoder(placed.network, placed.placing), flight)
        placed.compiled.write()
        self._inputs = [shape for shape in tensor_shapes(config["input"]) if shape.name in CLIP]
        self._clip_size = ClipSize(description.num_frames, description.image_size, description.conditioning_frame)
        host = encoded_frames(parameters, self._clip_size)
        host.find_library()
        self._encoded = frames_on_card(host, self._card, self._say, self._count_host_decoded)
        self._say(f"{description.precision} on {self._card.name}")
        self._told = told_by(parameters)
        labels = {"model": description.preset, "precision": description.precision}
        table = ClipTable(table_path(os.environ.get(LAUNCH_VARIABLE, ""), os.getppid()))
        role = Role.from_parameters(self._name, parameters)
        self._telemetry = Telemetry(pb_utils, labels)
        self._reception = Reception.of_this_server()
        self._passage = Passage(role, table, self._telemetry, description.num_frames)
        # Clips enter in one thread and leave in another.
        self._lock = threading.Lock()
        self._computing = Worker("compute", self._compute, pb_utils.Logger.log_error)
        self._finishing = Worker("answer", self._finish, pb_utils.Logger.log_error)

    def execute(self, requests: list[Any]) -> None:
        """Take requests in; each is answered by its own sender, so that the next comes in while one computes."""
        for request in requests:
            self._take(request)

    def finalize(self) -> None:
        self._computing.close()
        self._finishing.close()
        self._passage.close()

    def _take(self, request: Any) -> None:
        sender, asker, ticket = request.get_response_sender(), self._reception.read(request), None
        if request.is_cancelled():
            self._refuse(sender, asker, None, Reason.CANCELLED, f"{self._name}: {CANCELLED}")
            return
        try:
            with self._lock:
                clip = self._passage.enter(asker, None, request.timeout())
            ticket = clip.ticket
            optional = read_optional(request, self._optional)
            asked, wish = read_prompts(optional, self._clip_size), read_wish(optional)
            features = not set(IMAGE_FEATURES).isdisjoint(request.requested_output_names())
            self._answers.check(asked, features)
            given: dict[str, Any] = read_optional(request, OF_CLIP, read_tensor)
            if isinstance(given.get(AUDIO), Tensor):
                given[AUDIO] = given[AUDIO].cpu().numpy()
            if asked.use_audio:
                check_sound_came(given)
            given[FRAMES] = take_frames(given, self._encoded)
            given.pop(ENCODED_FRAMES, None)
            for shape in self._inputs:
                if shape.name in given:
                    check_given(shape, given[shape.name])
            if asked.use_audio:
                check_full_scale(given)
            slot = self._flight.upload(given)
            # A view of the request's memory would end with it.
            heard = {AUDIO: given[AUDIO].copy()} if AUDIO in given else {}
            self._computing.give(Job(request, sender, clip, heard, asked, wish, slot, features, {}))
        except NotAdmitted as refusal:
            _send(sender, refuse_request(refusal.reason, f"{self._name}: {refusal}"))
        except Exception as error:  # noqa: BLE001  (sorted there)
            self._fail(request, sender, asker, ticket, error)

    def _compute(self, job: Job) -> None:
        try:
            job.answer, job.coming = self._answers.compute(job.slot, job.asked, job.features)
            with self._lock:
                job.stages = self._answers.stage_seconds(job.asked)
                for stage, seconds in job.stages.items():
                    self._telemetry.observe("auralsam2_stage_duration_seconds", seconds, stage=stage)
            self._finishing.give(job)
        except Exception as error:  # noqa: BLE001  (sorted there)
            self._flight.release(job.slot)
            self._fail(job.request, job.sender, job.clip.asker, job.clip.ticket, error)

    def _finish(self, job: Job) -> None:
        try:
            answer = in_form(self._answers.collect(job.slot, job.answer, job.coming), job.wish)
            response = answer_request({**answer, **self._told}, job.request, write=write_tensor)
            with self._lock:
                counts = job.asked.use_audio or not job.features
                self._passage.leave(job.clip, job.heard, prompts_of(answer), counts=counts, stages=job.stages)
            _send(job.sender, response)
        except Exception as error:  # noqa: BLE001  (sorted there)
            self._fail(job.request, job.sender, job.clip.asker, job.clip.ticket, error)
        finally:
            self._flight.release(job.slot)

    def _fail(self, request: Any, sender: Any, asker: Asker, ticket: bytes | None, error: Exception) -> None:
        """Answer with what went wrong: the caller's fault, the card's, or our own, whose words stay in the log."""
        failed = error if isinstance(error, Refusal) else self._card.explain(error)
        if failed is None or failed is not error:
            pb_utils.Logger.log_error(f"{self._name}: request {request.request_id()!r} failed: {error!r}")
        if failed is None:
            self._refuse(sender, asker, ticket, Reason.FAULT, f"{self._name}: {FAULT}")
        else:
            self._refuse(sender, asker, ticket, failed.reason, str(failed))

    def _refuse(self, sender: Any, asker: Asker, ticket: bytes | None, reason: Reason, message: str) -> None:
        with self._lock:
            self._passage.fail(asker, ticket, reason)
        _send(sender, refuse_request(reason, message))

    def _count_host_decoded(self, reason: str) -> None:
        with self._lock:
            self._telemetry.count(HOST_DECODED, reason=reason)

    def _say(self, line: str) -> None:
        pb_utils.Logger.log_info(f"{self._name}: {line}")


def _send(sender: Any, response: Any) -> None:
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
