"""What another program imports to ask AuralSAM2: read a clip, send it, mark objects, take the masks.

The names below are the public ones. Each is imported when it is first asked for, so that a program which only reads
media waits for no network library, and one which only sends arrays for no video library.
"""

import importlib
from typing import TYPE_CHECKING, Any

from auralsam2_client.version import __version__ as __version__

if TYPE_CHECKING:
    from auralsam2_client.calls.async_client import AsyncClient as AsyncClient
    from auralsam2_client.calls.client import Client as Client
    from auralsam2_client.calls.health import check_health as check_health
    from auralsam2_client.calls.planning import SegmentedClip as SegmentedClip
    from auralsam2_client.calls.segmentation import Segmentation as Segmentation
    from auralsam2_client.calls.segmenting import SegmentedMedia as SegmentedMedia
    from auralsam2_client.calls.segmenting import segment_clips as segment_clips
    from auralsam2_client.calls.segmenting import segment_media as segment_media
    from auralsam2_client.calls.segmenting_async import segment_clips_async as segment_clips_async
    from auralsam2_client.calls.session import AsyncSession as AsyncSession
    from auralsam2_client.calls.session import Session as Session
    from auralsam2_client.calls.wire import ClipShape as ClipShape
    from auralsam2_client.errors import AuralServeError as AuralServeError
    from auralsam2_client.errors import BadInput as BadInput
    from auralsam2_client.errors import ConfigError as ConfigError
    from auralsam2_client.errors import ServerFault as ServerFault
    from auralsam2_client.errors import ServerTimeout as ServerTimeout
    from auralsam2_client.errors import ServerUnavailable as ServerUnavailable
    from auralsam2_client.errors import SessionEnded as SessionEnded
    from auralsam2_client.masks import FrameResult as FrameResult
    from auralsam2_client.masks import Rle as Rle
    from auralsam2_client.masks import from_rle as from_rle
    from auralsam2_client.masks import to_masks as to_masks
    from auralsam2_client.masks import to_rle as to_rle
    from auralsam2_client.masks import upsample as upsample
    from auralsam2_client.masks import write_masks as write_masks
    from auralsam2_client.masks import write_results as write_results
    from auralsam2_client.media.clips import MediaClip as MediaClip
    from auralsam2_client.media.prompt_options import read_prompts as read_prompts
    from auralsam2_client.media.reader import Media as Media
    from auralsam2_client.media.reader import read_media as read_media
    from auralsam2_client.media.sound import to_stereo_16k as to_stereo_16k
    from auralsam2_client.media.sound_windows import Windows as Windows
    from auralsam2_client.media.sound_windows import windows as windows
    from auralsam2_client.media.stills.frames import resize_frames as resize_frames
    from auralsam2_client.prompts import Prompts as Prompts

_PUBLIC = {
    "calls.async_client": ("AsyncClient",),
    "calls.client": ("Client",),
    "calls.health": ("check_health",),
    "calls.planning": ("SegmentedClip",),
    "calls.segmentation": ("Segmentation",),
    "calls.segmenting": ("SegmentedMedia", "segment_clips", "segment_media"),
    "calls.segmenting_async": ("segment_clips_async",),
    "calls.session": ("AsyncSession", "Session"),
    "calls.wire": ("ClipShape",),
    "errors": (
        "AuralServeError",
        "BadInput",
        "ConfigError",
        "ServerFault",
        "ServerTimeout",
        "ServerUnavailable",
        "SessionEnded",
    ),
    "masks": (
        "FrameResult",
        "Rle",
        "from_rle",
        "to_masks",
        "to_rle",
        "upsample",
        "write_masks",
        "write_results",
    ),
    "media.clips": ("MediaClip",),
    "media.stills.frames": ("resize_frames",),
    "media.prompt_options": ("read_prompts",),
    "media.reader": ("Media", "read_media"),
    "media.sound": ("to_stereo_16k",),
    "media.sound_windows": ("Windows", "windows"),
    "prompts": ("Prompts",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the module of a public name, once. Raises: AttributeError for any other name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. Public names: {', '.join(_MODULE_OF)}.")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
