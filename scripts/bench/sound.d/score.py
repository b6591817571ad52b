"""How well a recording says what was said: PESQ (ITU-T P.862, P.862.2) and ESTOI (Jensen and Taal, 2016).

PESQ estimates how a listener would grade the speech, from 1.0 to 4.64 (wide band) or 4.55 (narrow band). ESTOI
estimates what share of it would be understood, from 0 to 1; it knows nothing of PESQ.
"""

import math
import pathlib
import struct

import numpy
from pesq import PesqError, pesq
from pystoi import stoi
from scipy.signal import correlate, resample_poly

import speech

LOWEST = 1.0            # the score of a piece that PESQ finds no speech in, or that never came
BEFORE, AFTER = 1.0, 4.0   # seconds around its place where a piece is looked for
CORRELATION = 8000      # Hz at which it is looked for


def read_wav(path):
    """(rate, samples of the first channel). Reads also what a killed writer left, without a length in its head."""
    data = pathlib.Path(path).read_bytes() if pathlib.Path(path).exists() else b""
    at, rate, channels, bits, kind = 12, 8000, 1, 16, 1
    while at + 8 <= len(data):
        name, length = data[at:at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
        if name == b"data":
            end = at + 8 + length if 0 < length <= len(data) - at - 8 else len(data)
            width = channels * bits // 8
            body = data[at + 8:end]
            body = body[:len(body) // width * width]
            if bits == 16 and kind in (1, 0xFFFE):
                return rate, numpy.frombuffer(body, "<i2")[::channels].astype(numpy.float32) / 32768
            if bits == 32 and kind == 3:
                return rate, numpy.frombuffer(body, "<f4")[::channels].astype(numpy.float32)
            raise ValueError(f"{path}: {bits} bits of format {kind} are not read here")
        at += 8 + length + length % 2
    return rate, numpy.zeros(0, numpy.float32)


def at_rate(samples, rate, wanted):
    if rate == wanted or len(samples) == 0:
        return samples
    divisor = math.gcd(rate, wanted)
    return resample_poly(samples, wanted // divisor, rate // divisor)


def find(reference, recording, expected, before, after):
    """Where in the recording the reference begins (samples), near `expected`, and how alike they are there (0 to 1)."""
    low = int(expected - before)
    high = int(expected + after) + len(reference)
    window = cut(recording, low, high - low)
    alike = correlate(window, reference, "valid", "fft")
    energy = numpy.concatenate([[0], numpy.cumsum(window.astype(float) ** 2)])
    norms = numpy.sqrt(numpy.maximum(energy[len(reference):] - energy[:-len(reference)], 1e-9)
                       * max(float(numpy.sum(reference.astype(float) ** 2)), 1e-9))
    best = int(numpy.argmax(alike))
    return low + best, float(alike[best] / norms[best])


def cut(samples, start, length):
    """Samples from `start` on; what lies outside is silence."""
    out = numpy.zeros(length, samples.dtype)
    low, high = max(0, start), min(len(samples), start + length)
    if high > low:
        out[low - start:high - start] = samples[low:high]
    return out


def places_of(reference, recording):
    """Yields (number, where its recording begins, how alike) of every piece; both at speech.RATE, places in samples."""
    said, heard = (at_rate(samples, speech.RATE, CORRELATION) for samples in (reference, recording))
    length, step = int(speech.PIECE * CORRELATION), speech.RATE // CORRELATION
    rough = [find(said[number * length:(number + 1) * length], heard, number * length,
                  BEFORE * CORRELATION, AFTER * CORRELATION) for number in range(len(said) // length)]
    # A piece too broken to be found by itself is where its neighbours say.
    sure = [place - number * length for number, (place, alike) in enumerate(rough) if alike > 0.3]
    usual = int(numpy.median(sure)) if sure else 0
    for number, (place, alike) in enumerate(rough):
        if alike <= 0.3 and abs(place - number * length - usual) > 0.1 * CORRELATION:
            place = number * length + usual
        # A fraction of a sample at 16 kHz already costs PESQ some hundredths.
        piece = reference[number * length * step:(number + 1) * length * step]
        exact, _ = find(piece, recording, place * step, 2 * step, 2 * step)
        yield number, exact, alike


def estoi(reference, recording, rate):
    """The mean over a piece's sentences, each aligned by itself: a phone may stretch the silence between."""
    marks = []
    for start in speech.STARTS:
        length = int(speech.ROOM * rate)
        said = cut(reference, int(start * rate), length)
        place, alike = find(said, recording, int(start * rate), 0.2 * rate, 0.2 * rate)
        heard = cut(recording, place if alike > 0.2 else int(start * rate), length)
        # Digital silence has no correlation; a hair of noise makes it a poor one, as it is.
        noise = numpy.random.default_rng(1).normal(0, 1e-6, length)
        marks.append(max(0.0, float(stoi(said + noise, heard + noise[::-1], rate, extended=True))))
    return sum(marks) / len(marks)


def score_piece(reference, recording, rate, mode):
    """(PESQ, ESTOI) of one aligned piece; wide band at 16 kHz, narrow band at 8 kHz."""
    if float(numpy.max(numpy.abs(recording), initial=0.0)) < 1e-3:
        return LOWEST, 0.0
    try:
        mark = float(pesq(rate, reference, recording, mode))
    except PesqError:
        mark = LOWEST
    return mark, estoi(reference, recording, rate)


def score(reference, path, mode):
    """The scores of every piece of a recording: [{piece, pesq, estoi, delay_ms, alike}]."""
    wanted = 16000 if mode == "wb" else 8000
    rate, recording = read_wav(path)
    recording = at_rate(recording, rate, speech.RATE)
    length = int(speech.PIECE * speech.RATE)
    found = []
    for number, place, alike in places_of(reference, recording):
        said = at_rate(reference[number * length:(number + 1) * length], speech.RATE, wanted)
        heard = at_rate(cut(recording, place, length), speech.RATE, wanted)
        mark, understood = score_piece(said, heard, wanted, mode)
        found.append({"piece": number, "pesq": round(mark, 3), "estoi": round(understood, 3),
                      "delay_ms": round((place / speech.RATE - number * speech.PIECE) * 1000, 1),
                      "alike": round(alike, 3)})
    return found
