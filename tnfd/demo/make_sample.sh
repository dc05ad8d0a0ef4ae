#!/bin/sh
# Speaks sample.txt into sample.mp3, with flite (Debian: apt install flite), whose voices may be used without
# restriction, and PyAV, which tnfd needs anyway. The voice is "rms" because the embedded engine writes down every word of it.
set -eu
cd "$(dirname "$0")"
spoken=$(mktemp --suffix=.wav)
trap 'rm -f "$spoken"' EXIT
flite -voice rms -f sample.txt -o "$spoken"
python3 - "$spoken" sample.mp3 <<'EOF'
import sys

import av

with av.open(sys.argv[1]) as source, av.open(sys.argv[2], "w") as target:
    stream = target.add_stream("libmp3lame", rate=16_000)
    stream.bit_rate = 48_000
    stream.layout = "mono"
    for frame in source.decode(audio=0):
        target.mux(stream.encode(frame))
    target.mux(stream.encode(None))
EOF
