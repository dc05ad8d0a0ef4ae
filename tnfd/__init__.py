"""Watches folders, transcribes what lands in them, writes the transcripts beside the files."""

__version__ = "0.1.0"
