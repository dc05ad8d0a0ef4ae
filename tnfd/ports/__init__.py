"""The protocols between the rooms: what a room may ask of an adapter, and what that may raise."""

from tnfd.ports.clock import Clock
from tnfd.ports.engine import Capabilities, Engine, EngineChunk, Hints
from tnfd.ports.media import Decoded, Media, MediaEvent, PrepareRequest, Probed

__all__ = [
    "Capabilities",
    "Clock",
    "Decoded",
    "Engine",
    "EngineChunk",
    "Hints",
    "Media",
    "MediaEvent",
    "PrepareRequest",
    "Probed",
]
