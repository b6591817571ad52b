#!/usr/bin/env python3
"""Runs the cells of scripts/bench/sound, several calls at a time, scores what was heard, and says what came out."""

import argparse
import concurrent.futures
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import calls
import cost
import host
import phones
import report
import score
import speech

PR_SET_PDEATHSIG = 1
CROWD = 30         # calls whose cost is measured
EAR_SECONDS = 20   # of each call whose delay is measured
PER_CORE = 5       # calls at a time for each core: their phones and boxes use about a third of it


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench/sound", add_help=False,
                                     usage="scripts/bench/sound [OPTION…]; --help says which")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", type=lambda text: text.split(","))
    parser.add_argument("--phones", type=lambda text: text.split(","), default=["ringtrue", "baresip"])
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=PER_CORE * (os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--prefix", required=True)
    chosen = parser.parse_args()
    known = [*calls.CELLS, "cost", "mouth-to-ear"]
    for wrong in [cell for cell in chosen.cells or [] if cell not in known]:
        parser.error(f"there is no cell {wrong}; there are {', '.join(known)}")
    for wrong in [name for name in chosen.phones if name not in phones.PHONES]:
        parser.error(f"there is no phone {wrong}; there are {', '.join(phones.PHONES)}")
    if chosen.write_docs and (chosen.quick or chosen.cells or len(chosen.phones) < len(phones.PHONES)):
        parser.error("--write-docs wants a whole run: not with --quick, --cells or --phones")
    if chosen.keep and chosen.keep.exists():
        parser.error(f"{chosen.keep} is there already")
    if chosen.calls < 1 or chosen.jobs < 1:
        parser.error("--calls and --jobs are at least 1")
    return chosen


def say(text):
    print(text, file=sys.stderr, flush=True)


def be_favoured():
    """Where the kernel gives each session the same share of a core (autogroup), a process's nice value counts only
    within its session; this is the session's own."""
    try:
        pathlib.Path("/proc/self/autogroup").write_text("-10")
    except OSError:
        pass


def be_modest():
    """Scoring gives way to the phones that still talk: in a session of its own, which ends with its parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()
    os.nice(5)


def score_recordings(talks, paths, mode):
    """The scores of a call, as its two listeners heard it: what alice said first."""
    return [score.score(talk, path, mode) for talk, path in zip(talks, paths)]


class Bench:
    def __init__(self, chosen, directory):
        self.chosen, self.directory = chosen, directory
        # 24 scores a cell: twelve pieces each way.
        pieces = 3 if chosen.quick else 12
        self.talks = [speech.talk(chosen.cache, pieces, 0), speech.talk(chosen.cache, pieces, 12)]
        self.scorers = concurrent.futures.ProcessPoolExecutor(max_workers=os.cpu_count(), initializer=be_modest)
        self.done = 0

    def planned(self):
        cells = [cell for cell in self.chosen.cells or calls.CELLS if cell in calls.CELLS]
        # Both phones of a cell side by side: what disturbs one disturbs the other.
        return [calls.Call(self.chosen.prefix, self.directory, program, cell, number, self.talks, self.chosen.seed)
                for number in range(self.chosen.calls) for cell in cells for program in self.chosen.phones]

    def talk(self, call):
        """Holds the call, and hands its recordings to a scorer: the next call need not wait for the scores."""
        try:
            call.run()
            paths = [str(path) for path in call.recordings]
            return self.scorers.submit(score_recordings, self.talks, paths, calls.mode_of(call.cell))
        except Exception as error:  # one call's failure is a result; the others go on
            call.result["trouble"] = f"{type(error).__name__}: {error}"
            return None

    def judge(self, call, scores, total):
        if scores is not None:
            try:
                call.result["scores"] = scores.result()
            except Exception as error:
                call.result["trouble"] = f"{type(error).__name__}: {error}"
        self.done += 1
        say(f"[{self.done}/{total}] {report.line_of(call.result)}")
        if self.chosen.keep is None:
            call.forget()
        return call.result

    def run(self):
        planned = self.planned()
        if planned:
            length = len(self.talks[0]) / speech.RATE + calls.TAIL + 3
            say(f"{len(planned)} calls of {length:.0f} s, {min(self.chosen.jobs, len(planned))} at a time")
        busy = host.Busy()
        with concurrent.futures.ThreadPoolExecutor(self.chosen.jobs) as pool:
            talking = [pool.submit(self.talk, call) for call in planned]
            results = [self.judge(call, scores.result(), len(planned)) for call, scores in zip(planned, talking)]
        return results, busy.percent()

    def crowds(self):
        if self.chosen.cells and "cost" not in self.chosen.cells:
            return []
        talk = speech.talk(self.chosen.cache, 3, 0)
        found = []
        for program in self.chosen.phones:
            crowd = cost.Crowd(self.chosen.prefix, self.directory, program, CROWD, talk)
            say(f"{CROWD} calls of one {program} on one core")
            busy = host.Busy()
            try:
                crowd.run()
                crowd.result["machine_busy_percent"] = busy.percent()
                crowd.score()
            except Exception as error:
                crowd.result["trouble"] = f"{type(error).__name__}: {error}"
            found.append(crowd.result)
        return found


def mouth_to_ear(chosen):
    """What scripts/bench/mouth-to-ear says of each phone; nothing where it cannot run."""
    if chosen.cells and "mouth-to-ear" not in chosen.cells:
        return []
    say(f"mouth to ear, {EAR_SECONDS} s for each phone and packet time")
    program = pathlib.Path(__file__).parents[1] / "mouth-to-ear"
    wanted = [word for name in chosen.phones for word in ("--phone", name)]
    done = subprocess.run([str(program), "--json", "--seconds", str(EAR_SECONDS), *wanted], text=True,
                          stdout=subprocess.PIPE, env=dict(os.environ, RINGTRUE=str(chosen.binary.resolve())))
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        rows.append({"phone": "", "ptime": 0, "trouble": f"scripts/bench/mouth-to-ear ended with {done.returncode}"})
    return rows


def measure(chosen):
    phones.Ringtrue.binary = chosen.binary.resolve()
    if chosen.keep:
        chosen.keep.mkdir(parents=True)
    bench = Bench(chosen, chosen.keep or chosen.work)
    results, busy = bench.run()
    crowds = bench.crowds()
    whole = report.summarize(results, crowds, mouth_to_ear(chosen), host.conditions(chosen.binary), busy)
    whole["calls"] = results
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(whole, indent=1) + "\n")
    say(f"results: {chosen.json}")
    return whole


def again(path):
    """The figures of an earlier run, from its calls."""
    whole = json.loads(path.read_text())
    return report.summarize(whole["calls"], whole["cost"], whole.get("mouth_to_ear", []), whole["conditions"],
                            whole["machine_busy_percent"])


def main():
    chosen = arguments()
    be_favoured()
    # The caller takes the namespaces and the working directory away, and ends the whole process group.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    began = time.monotonic()
    whole = again(chosen.results) if chosen.results else measure(chosen)
    print(report.table(whole))
    if chosen.write_docs:
        report.write_docs(whole)
    say(f"took {time.monotonic() - began:.0f} s")
    troubles = report.troubles(whole)
    for trouble in troubles:
        say(f"WARNING: {trouble}")
    return 1 if any("no figure" in trouble for trouble in troubles) else 0


if __name__ == "__main__":
    sys.exit(main())
