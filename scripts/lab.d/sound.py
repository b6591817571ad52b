"""Tones written to WAV files and found again in them.

Independent of the phones: what was heard is measured in the recording by its
frequency (Goertzel), never taken from a log.
"""

from __future__ import annotations

import array
import dataclasses
import math
import pathlib
import struct
import wave

HOP = 0.005        # seconds between two measurements
WINDOW = 0.010     # seconds of sound in one
QUIET = 200        # root mean square below which nothing counts as heard
SHARE = 0.5        # of a window's energy that has to be the tone


@dataclasses.dataclass
class Heard:
    """What a recording holds of a tone; times in seconds."""

    total: float = 0.0         # time with the tone
    longest_gap: float = 0.0   # between the first and the last of it
    first: float | None = None
    length: float = 0.0        # of the whole recording


def write_tone(path, hertz, seconds, rate=48000, channels=1):
    samples = array.array("h")
    for i in range(int(rate * seconds)):
        samples.extend([int(8000 * math.sin(2 * math.pi * hertz * i / rate))] * channels)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())


def read_wav(path):
    """(rate, samples of the first channel). Also reads a file whose writer was
    killed before it could put the length into the header."""
    data = pathlib.Path(path).read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return 8000, array.array("h")
    at, rate, channels, bits, kind = 12, 8000, 1, 16, 1
    while at + 8 <= len(data):
        name, length = data[at:at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
        if name == b"data":
            end = at + 8 + length if 0 < length <= len(data) - at - 8 else len(data)
            body = data[at + 8:end]
            width = channels * bits // 8
            body = body[:len(body) // width * width]
            if bits == 16 and kind in (1, 0xFFFE):
                return rate, array.array("h", body)[::channels]
            if bits == 32 and kind == 3:
                return rate, array.array("h", (int(max(-1, min(1, s)) * 32767)
                                               for s in array.array("f", body)[::channels]))
            raise ValueError(f"{path}: {bits} bits of format {kind} are not read here")
        at += 8 + length + length % 2
    return rate, array.array("h")


def tone_windows(rate, samples, hertz):
    """Yields for each hop whether the tone is there."""
    # 12 kHz suffices for a tone below 2 kHz, and pure Python is slow.
    step = max(1, rate // 12000)
    samples, rate = samples[::step], rate / step
    size, hop = int(rate * WINDOW), int(rate * HOP)
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    for start in range(0, len(samples) - size + 1, hop):
        energy, s1, s2 = 0, 0.0, 0.0
        for sample in samples[start:start + size]:
            energy += sample * sample
            s1, s2 = sample + turn * s1 - s2, s1
        power = s1 * s1 + s2 * s2 - turn * s1 * s2
        loud = energy > QUIET * QUIET * size
        yield loud and 2 * power / size > SHARE * energy


def listen(path, hertz):
    """Measures a tone in a WAV file; an absent file has heard nothing."""
    heard = Heard()
    if not pathlib.Path(path).exists():
        return heard
    rate, samples = read_wav(path)
    heard.length = len(samples) / rate
    last = None
    for number, present in enumerate(tone_windows(rate, samples, hertz)):
        if not present:
            continue
        now = number * HOP
        heard.total += HOP
        if heard.first is None:
            heard.first = now
        elif now - last > HOP * 1.5:
            # Two windows that both hold the tone overlap the silence by at most one window.
            heard.longest_gap = max(heard.longest_gap, now - last - HOP)
        last = now
    return heard


if __name__ == "__main__":
    import sys
    for recording in sys.argv[2:]:
        print(recording, listen(recording, float(sys.argv[1])))
