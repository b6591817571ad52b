"""What the phones say: short sentences in several voices and languages, by flite and espeak-ng.

A piece is eight seconds with two sentences and silence around them, as P.862 wants it; a talk is pieces in a
row. Levels are P.56's: active speech at -26 dB below overload, whatever the pauses. Under all of it lies the
noise of a quiet room: no microphone gives digital silence, and Opus spends next to no bits on that.
"""

import hashlib
import json
import pathlib
import subprocess
import tempfile

import numpy
from scipy.io import wavfile
from scipy.signal import lfilter, resample_poly

RATE = 48000
PIECE = 8.0                  # seconds
STARTS = (0.4, 4.2)          # where a piece's two sentences begin
ROOM = 3.4                   # seconds that a sentence may take
LEVEL = -26.0                # dBov, active

NOISE = -65.0                # dBov, white

# Women and men, three languages, several accents: (synthesizer, voice, language of the sentences). flite's voices
# are made of recordings of people, espeak-ng's are computed, which Opus finds harder.
VOICES = [("flite", "slt", "en"), ("flite", "rms", "en"), ("espeak-ng", "de+f3", "de"), ("flite", "awb", "en"),
          ("flite", "slt", "en"), ("espeak-ng", "fr+m3", "fr"), ("flite", "kal16", "en"), ("flite", "slt", "en"),
          ("espeak-ng", "fr+f2", "fr"), ("flite", "rms", "en"), ("flite", "awb", "en"), ("espeak-ng", "de+m5", "de")]

# English: from the "Harvard sentences" (IEEE recommended practice for speech quality measurements, 1969).
SENTENCES = {
    "en": [
        "The birch canoe slid on the smooth planks.", "Glue the sheet to the dark blue background.",
        "It's easy to tell the depth of a well.", "These days a chicken leg is a rare dish.",
        "Rice is often served in round bowls.", "The juice of lemons makes fine punch.",
        "The box was thrown beside the parked truck.", "Four hours of steady work faced us.",
        "A large size in stockings is hard to sell.", "The boy was there when the sun rose.",
        "A rod is used to catch pink salmon.", "The source of the huge river is the clear spring.",
        "Kick the ball straight and follow through.", "Help the woman get back to her feet.",
        "A pot of tea helps to pass the evening.", "Smoky fires lack flame and heat.",
        "The soft cushion broke the man's fall.", "The salt breeze came across from the sea.",
        "The girl at the booth sold fifty bonds.", "The small pup gnawed a hole in the sock.",
        "The fish twisted and turned on the bent hook.", "Press the pants and sew a button on the vest.",
        "The swan dive was far short of perfect.", "The beauty of the view stunned the young boy."],
    "de": [
        "Der Zug nach Hamburg fährt heute von Gleis sieben.", "Am Abend brennt im Fenster noch ein Licht.",
        "Die Kinder spielen im Garten hinter dem Haus.", "Bitte bringen Sie mir noch eine Tasse Kaffee.",
        "Im Winter liegt auf den Bergen viel Schnee.", "Das Buch liegt unter dem Tisch in der Küche.",
        "Morgen früh wollen wir an den See fahren.", "Der Hund schläft am liebsten vor dem Ofen.",
        "Sie schrieb einen langen Brief an ihre Schwester.", "Auf dem Markt gibt es frische Äpfel.",
        "Der Wind hat das alte Tor zugeschlagen.", "Wir haben uns lange nicht gesehen."],
    "fr": [
        "Le bateau quitte le port au lever du jour.", "Ma sœur habite une petite maison près du lac.",
        "Il a posé les clés sur la table de la cuisine.", "Nous prendrons le train de huit heures.",
        "Les enfants jouent dans la cour de l'école.", "Le vent du nord apporte souvent la pluie.",
        "Elle a ouvert la fenêtre pour entendre les oiseaux.", "Le pain frais sent bon le matin.",
        "Mon voisin répare sa vieille voiture.", "La rivière passe sous un pont de pierre.",
        "On entend sonner les cloches du village.", "Il faut tourner à gauche après la gare."],
}


def active_level(samples, rate):
    """The active speech level of ITU-T P.56, method B, in dB relative to a full-scale square wave's power."""
    envelope = numpy.abs(samples.astype(float))
    smooth = numpy.exp(-1 / (rate * 0.03))
    for _ in range(2):
        envelope = lfilter([1 - smooth], [1, -smooth], envelope)
    hang = int(0.2 * rate)
    energy = float(numpy.sum(samples.astype(float) ** 2))
    if energy == 0:
        return -100.0
    last = None
    # The threshold at which the active level lies 15.9 dB above it, between two halvings.
    for step in range(1, 16):
        threshold = 2.0 ** -step
        above = numpy.flatnonzero(envelope >= threshold)
        if len(above) == 0:
            continue
        gaps = numpy.diff(above)
        count = 1 + int(numpy.sum(numpy.minimum(gaps, hang))) + hang
        level = 10 * numpy.log10(energy / min(count, len(samples)))
        margin = level - 20 * numpy.log10(threshold)
        if margin >= 15.9:
            if last is None or last[1] == margin:
                return level
            share = (15.9 - last[1]) / (margin - last[1])
            return last[0] + share * (level - last[0])
        last = (level, margin)
    return last[0] if last else -100.0


def _synthesize(synthesizer, voice, sentence, stretch, path):
    if synthesizer == "flite":
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}", "-t", sentence, "-o", path]
    else:
        command = ["espeak-ng", "-v", voice, "-s", str(int(150 / stretch)), "-w", path, sentence]
    subprocess.run(command, check=True)
    return wavfile.read(path)


def say(synthesizer, voice, sentence):
    """One sentence at 48 kHz, without silence around it, short enough for its place in a piece."""
    stretch = 1.0
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(4):
            rate, samples = _synthesize(synthesizer, voice, sentence, stretch, directory + "/said.wav")
            samples = samples.astype(float) / 32768
            loud = numpy.flatnonzero(numpy.abs(samples) > 0.005 * numpy.max(numpy.abs(samples)))
            samples = samples[loud[0]:loud[-1] + 1]
            if len(samples) <= ROOM * rate:
                break
            stretch *= 0.97 * ROOM * rate / len(samples)
    divisor = numpy.gcd(RATE, rate)
    return resample_poly(samples, RATE // divisor, rate // divisor)[:int(ROOM * RATE)]


def piece(number):
    """Piece `number` of all that can be said; every number has its own voice and sentences."""
    synthesizer, voice, language = VOICES[number % len(VOICES)]
    texts = SENTENCES[language]
    # The second round of voices says what the first did not.
    first = 2 * (number + number // len(VOICES)) % len(texts)
    samples = numpy.zeros(int(PIECE * RATE))
    for start, text in zip(STARTS, (texts[first], texts[first + 1])):
        spoken = say(synthesizer, voice, text)
        samples[int(start * RATE):int(start * RATE) + len(spoken)] = spoken
    samples *= 10 ** ((LEVEL - active_level(samples, RATE)) / 20)
    samples += numpy.random.default_rng(number).normal(0, 10 ** (NOISE / 20), len(samples))
    peak = numpy.max(numpy.abs(samples))
    if peak > 0.99:
        raise ValueError(f"piece {number} clips at {peak:.2f}: choose another voice than {voice}")
    return samples


def _key(pieces, first):
    text = json.dumps([RATE, PIECE, STARTS, ROOM, LEVEL, NOISE, VOICES, SENTENCES, pieces, first])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def talk(directory, pieces, first):
    """The reference: `pieces` pieces in a row from number `first` on, as float samples; kept for the next run."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / f"talk-{_key(pieces, first)}.npy"
    if kept.exists():
        return numpy.load(kept)
    samples = numpy.concatenate([piece(first + number) for number in range(pieces)]).astype(numpy.float32)
    numpy.save(kept, samples)
    return samples


def write(path, samples, rate=RATE, channels=1):
    """A WAV file of 16 bits; two channels say the same."""
    if rate != RATE:
        divisor = numpy.gcd(RATE, rate)
        samples = resample_poly(samples, rate // divisor, RATE // divisor)
    whole = numpy.clip(numpy.round(samples * 32768), -32768, 32767).astype(numpy.int16)
    wavfile.write(path, rate, numpy.stack([whole] * channels, axis=1) if channels > 1 else whole)
