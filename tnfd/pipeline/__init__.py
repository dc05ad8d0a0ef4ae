"""One job from its lease to its outputs: prepare, transcribe, deliver."""
