#!/usr/bin/env python3
"""Judges the judge: recordings of which it is known how they sound. The box has its own, test_box.py."""

import pathlib
import tempfile
import unittest

import numpy

import report
import score
import speech
import test_box

PIECES = 2


class Scores(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.talk = speech.talk(cls.directory.name, PIECES, 0)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def scores(self, samples, mode="wb", rate=speech.RATE, channels=1):
        path = pathlib.Path(self.directory.name) / "heard.wav"
        speech.write(path, samples, rate, channels)
        return score.score(self.talk, path, mode)

    def delayed(self, samples, count):
        return numpy.concatenate([numpy.zeros(count, numpy.float32), samples])

    def test_the_same_sound_has_the_highest_score(self):
        for mode, highest in (("wb", 4.64), ("nb", 4.54)):
            for found in self.scores(self.talk, mode):
                self.assertGreaterEqual(found["pesq"], highest)
                self.assertGreaterEqual(found["estoi"], 0.995)

    def test_delay_and_channels_do_not_matter(self):
        for samples, channels in ((self.delayed(self.talk, 12345), 1), (self.delayed(self.talk, 1), 2)):
            for found in self.scores(samples, channels=channels):
                self.assertGreaterEqual(found["pesq"], 4.6)

    def test_a_clipped_beginning_costs_the_first_piece_alone(self):
        first, second = self.scores(self.talk[int(0.6 * speech.RATE):])
        self.assertLess(first["pesq"], 4.5)
        self.assertGreaterEqual(second["pesq"], 4.6)

    def test_delay_is_what_it_was(self):
        for found in self.scores(self.delayed(self.talk, 4800)):
            self.assertAlmostEqual(found["delay_ms"], 100, delta=0.2)

    def test_missing_sound_scores_lowest(self):
        half = len(self.talk) // PIECES
        first, second = self.scores(self.talk[:half])
        self.assertGreaterEqual(first["pesq"], 4.6)
        self.assertEqual((second["pesq"], second["estoi"]), (1.0, 0.0))
        for found in score.score(self.talk, pathlib.Path(self.directory.name) / "nothing.wav", "wb"):
            self.assertEqual(found["pesq"], 1.0)

    def test_more_holes_score_less(self):
        before = [4.64, 1.0]
        for share in (0.02, 0.1, 0.3):
            losses = test_box.box.Losses(share, 1, "1")
            holed = self.talk.copy()
            for start in range(0, len(holed), 960):
                if losses.next():
                    holed[start:start + 960] = 0
            scores = self.scores(holed)
            now = [numpy.mean([found["pesq"] for found in scores]), numpy.mean([found["estoi"] for found in scores])]
            self.assertLess(now[0], before[0])
            self.assertLess(now[1], before[1])
            before = now

    def test_another_talk_is_not_taken_for_this_one(self):
        other = speech.talk(self.directory.name, PIECES, 12)
        for found in self.scores(other):
            self.assertLess(found["pesq"], 2.0)
            self.assertLess(found["estoi"], 0.5)


class Speech(unittest.TestCase):
    def test_levels_are_those_of_p56(self):
        for number in range(len(speech.VOICES)):
            piece = speech.piece(number)
            self.assertAlmostEqual(speech.active_level(piece, speech.RATE), speech.LEVEL, delta=0.2)
            active = numpy.mean(numpy.abs(piece) > 0.003)
            self.assertGreater(active, 0.3, f"piece {number} says too little")

    def test_a_tone_has_the_level_of_its_amplitude(self):
        tone = 0.1 * numpy.sin(numpy.arange(4 * speech.RATE) * 0.13)
        self.assertAlmostEqual(speech.active_level(tone, speech.RATE), -23.0, delta=0.1)

    def test_pauses_do_not_count(self):
        tone = 0.1 * numpy.sin(numpy.arange(2 * speech.RATE) * 0.13)
        talk = numpy.concatenate([tone, numpy.zeros(4 * speech.RATE), tone])
        self.assertAlmostEqual(speech.active_level(talk, speech.RATE), -23.0, delta=0.5)

    def test_no_two_pieces_are_alike(self):
        pieces = [speech.piece(number) for number in range(24)]
        for one in range(24):
            for other in range(one):
                self.assertGreater(float(numpy.max(numpy.abs(pieces[one] - pieces[other]))), 0.02, (one, other))


class Figures(unittest.TestCase):
    def test_quantiles(self):
        figures = report.summary([3.0, 1.0, 2.0, 4.0])
        self.assertEqual((figures["mean"], figures["median"], figures["count"]), (2.5, 2.5, 4))
        self.assertAlmostEqual(figures["q05"], 1.15)
        self.assertIsNone(report.summary([])["median"])


if __name__ == "__main__":
    suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromModule(module)
                               for module in (test_box, __import__("__main__")))
    raise SystemExit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())
