"""The time from mouth to ear of a call between two phones on one host.

    chirps -> alice_microphone .monitor -> alice =call=> bob -> bob_speaker .monitor
                    |                                                 |
                    +-----------> one recorder, one clock <-----------+

Each phone has a sound server of its own, with null sinks for a sound card; that of
bob may run on a clock that is off by some parts per million. Both monitors are
recorded by this process, which notes when each piece of sound comes: the earliest
pieces of every second say at which moment which sample was there. The delay of a
chirp is the time between its two recordings.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy

HERE = pathlib.Path(__file__).parent
RATE = 48000
CHIRP = 0.200            # seconds
EVERY = 0.5037           # no multiple of any frame
LOWEST, HIGHEST = 400, 3200
LEVEL = 0.2
LONGEST_DELAY = 0.8
SETTLING = 4.0           # seconds of the call that are not judged
STEP = 0.0015            # a delay that changes by more between two chirps has slipped
WINDOW = 0.005           # of looking for gaps
CANNOT_RUN = 77
SINKS = {"alice": ("alice_microphone", "alice_speaker"), "bob": ("bob_microphone", "bob_speaker")}


class CannotRun(Exception):
    """Something that the measurement needs is missing or does not work."""


@dataclasses.dataclass
class Recording:
    """What came from a monitor, and when."""

    data: bytearray
    arrivals: list       # (moment, samples so far)

    def samples(self):
        return numpy.frombuffer(bytes(self.data[:len(self.data) // 2 * 2]), dtype="<i2").astype(numpy.float32) / 32768

    def clock(self):
        """A function from sample numbers to moments: a straight line between the earliest
        arrivals of every second."""
        moments = numpy.array([moment for moment, _ in self.arrivals])
        counts = numpy.array([count for _, count in self.arrivals], dtype=float)
        lateness = moments - counts / RATE
        second = ((moments - moments[0]) // 1.0).astype(int)
        knots = []
        for number in range(second[-1] + 1):
            there = numpy.flatnonzero(second == number)
            if len(there):
                best = there[numpy.argmin(lateness[there])]
                knots.append((counts[best], lateness[best]))
        xs, ys = numpy.array(knots).T
        return lambda sample: sample / RATE + numpy.interp(sample, xs, ys)


class Rig:
    """Two sound servers, two phones, a player and two recorders; all ended by their ids."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.processes = []
        self.environments = {}

    def start(self, name, *command, environment=None, stdout=None):
        with open(self.directory / f"{name}.out", "wb") as out, open(self.directory / f"{name}.err", "wb") as err:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                       stdout=stdout or out,
                                       stderr=err, env=environment, cwd=self.directory)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(3)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.processes.clear()

    def serve(self, who, drift):
        """A sound server of this phone's own."""
        home = self.directory / who
        home.mkdir(mode=0o700)
        environment = dict(os.environ, HOME=str(home), XDG_RUNTIME_DIR=str(home), XDG_CONFIG_HOME=str(home),
                           PULSE_RUNTIME_PATH=str(home), PULSE_SERVER=f"unix:{home}/native",
                           PULSE_COOKIE=str(home / "cookie"), RUST_BACKTRACE="1")
        (home / "cookie").write_bytes(os.urandom(256))
        script = [".fail", f"load-module module-native-protocol-unix auth-anonymous=1 socket={home}/native"]
        script += [f"load-module module-null-sink sink_name={sink} rate={RATE} channels=1" for sink in SINKS[who]]
        (home / "pulse.pa").write_text("\n".join(script) + "\n")
        self.environments[who] = environment
        server = dict(environment)
        if drift:
            server.update(LD_PRELOAD=str(self.clock_shim()), CLOCK_DRIFT_PPM=str(drift))
        self.start(f"pulseaudio-{who}", "pulseaudio", "-n", "-F", home / "pulse.pa", "--daemonize=no",
                   "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--realtime=no",
                   "--high-priority=no", environment=server)
        for _ in range(100):
            done = subprocess.run(["pactl", "list", "short", "sinks"], env=environment, capture_output=True, text=True)
            if all(sink in done.stdout for sink in SINKS[who]):
                return
            time.sleep(0.1)
        raise CannotRun(f"PulseAudio did not start: {(self.directory / f'pulseaudio-{who}.err').read_text()}")

    def clock_shim(self):
        library = self.directory / "clock_drift.so"
        if not library.exists():
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "clock_drift.c", "-ldl"], check=True)
        return library

    def play(self, who, sink, sound):
        player = self.start("player", "pacat", "--playback", f"--device={sink}", "--raw", f"--rate={RATE}",
                            "--channels=1", "--format=s16le", "--latency-msec=100", sound,
                            environment=self.environments[who])
        return player

    def record(self, places, seconds, alive):
        """Records monitors, each of them (who, source), for so long."""
        chosen = selectors.DefaultSelector()
        recordings = []
        for who, source in places:
            process = self.start(f"record-{source}", "parec", f"--device={source}", "--raw", f"--rate={RATE}",
                                 "--channels=1", "--format=s16le", "--latency-msec=10",
                                 environment=self.environments[who], stdout=subprocess.PIPE)
            os.set_blocking(process.stdout.fileno(), False)
            recording = Recording(bytearray(), [])
            recordings.append(recording)
            chosen.register(process.stdout, selectors.EVENT_READ, recording)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in chosen.select(0.2):
                piece = os.read(key.fd, 65536)
                now = time.monotonic()
                key.data.data.extend(piece)
                key.data.arrivals.append((now, len(key.data.data) // 2))
            for phone in alive:
                if phone.poll() is not None:
                    raise CannotRun(f"a phone ended early with {phone.returncode}; its output is in {self.directory}")
        return recordings


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("203.0.113.1", 9))   # sends nothing
        except OSError:
            return "127.0.0.1"
        return sock.getsockname()[0]


def await_text(path, text, patience):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if text in path.read_bytes():
            return
        time.sleep(0.05)
    raise CannotRun(f"{path} does not say {text.decode()}: {path.read_bytes()[-500:].decode(errors='replace')}")


def call_ringtrue(rig, program, ptime, seconds, options):
    port = free_port()
    pace = ["--ptime", ptime] if ptime else []
    bob = rig.start("bob", program, "listen", "--bind", f"127.0.0.1:{port}", "--answer", "auto", "--once", "--json",
                    "--audio-in", "bob_microphone.monitor", "--audio-out", "bob_speaker", *pace, *options,
                    environment=rig.environments["bob"])
    await_text(rig.directory / "bob.out", b'"listening"', 10)
    alice = rig.start("alice", program, "call", f"sip:bob@127.0.0.1:{port}", "--bind", "127.0.0.1", "--json",
                      "--duration", seconds + 30, "--audio-in", "alice_microphone.monitor",
                      "--audio-out", "alice_speaker", *pace, *options, environment=rig.environments["alice"])
    await_text(rig.directory / "alice.out", b'"answered"', 10)
    return alice, bob


BARESIP = """sip_listen {address}:{port}
audio_player alsa,{who}_speaker
audio_source alsa,{who}_microphone
audio_alert alsa,{who}_speaker
ausrc_srate 48000
auplay_srate 48000
ausrc_channels 1
auplay_channels 1
audio_buffer 20-160
audio_buffer_mode adaptive
jitter_buffer_type adaptive
jitter_buffer_delay 1-20
rtp_ports 20000-40000
module_path /usr/lib/baresip/modules
module opus.so
module alsa.so
module_tmp account.so
module_app menu.so
opus_stereo no
opus_sprop_stereo no
opus_application voip
"""


def call_baresip(rig, program, ptime, _seconds, _options):
    # It does not listen on the loopback interface.
    address, ports = own_address(), {"alice": free_port(), "bob": free_port()}
    phones = []
    for who in ("bob", "alice"):
        home = rig.directory / who
        (home / ".asoundrc").write_text("".join(
            f'pcm.{who}_{part} {{ type pulse device "{who}_{part}{tail}" }}\nctl.{who}_{part} {{ type pulse }}\n'
            for part, tail in (("microphone", ".monitor"), ("speaker", ""))))
        (home / "config").write_text(BARESIP.format(address=address, port=ports[who], who=who))
        (home / "accounts").write_text(
            f"<sip:{who}@{address}:{ports[who]}>;regint=0;answermode=auto;ptime={ptime or 20}\n")
        (home / "contacts").write_text("")
        dial = ["-e", f"/dial sip:bob@{address}:{ports['bob']}"] if who == "alice" else []
        phones.append(rig.start(who, program, "-4", "-f", home, *dial, environment=rig.environments[who]))
        await_text(rig.directory / f"{who}.out", b"is ready", 10)
    await_text(rig.directory / "alice.out", b"Call established", 10)
    return phones


PHONES = {"ringtrue": call_ringtrue, "baresip": call_baresip}


def chirp():
    time_of = numpy.arange(int(CHIRP * RATE)) / RATE
    phase = 2 * numpy.pi * (LOWEST * time_of + (HIGHEST - LOWEST) / 2 / CHIRP * time_of ** 2)
    edge = numpy.minimum(1, numpy.minimum(time_of, CHIRP - time_of) / 0.010)
    return (LEVEL * edge * numpy.sin(phase)).astype(numpy.float32)


def write_chirps(path, seconds):
    piece = numpy.zeros(int(EVERY * RATE), dtype=numpy.float32)
    piece[:int(CHIRP * RATE)] = chirp()
    numpy.tile((piece * 32767).astype("<i2"), int(seconds / EVERY) + 1).tofile(path)


def likeness(signal_part):
    """The chirp's matched filter over the signal: the envelope of the correlation, 0 to 1."""
    wanted = chirp()
    size = 1 << (len(signal_part) + len(wanted)).bit_length()
    spectrum = numpy.fft.rfft(signal_part, size) * numpy.conj(numpy.fft.rfft(wanted, size))
    full = numpy.zeros(size, dtype=complex)
    full[:len(spectrum)] = spectrum
    full[1:size // 2] *= 2
    return numpy.abs(numpy.fft.ifft(full))[:len(signal_part) - len(wanted) + 1]


def chirps_of(samples):
    """Where the chirps begin: blocks of the recording, one after another."""
    wanted, found, at = chirp(), [], 0
    enough = 0.3 * float(numpy.sum(wanted ** 2))
    stride = int(EVERY * RATE)
    while at + stride + len(wanted) < len(samples):
        match = likeness(samples[at:at + stride + len(wanted)])[:stride]
        best = int(numpy.argmax(match))
        if match[best] > enough:
            found.append(at + best)
        at += stride
    return found


def silent(heard):
    """Windows in the middle of a chirp in which nothing is heard."""
    size = int(WINDOW * RATE)
    body = heard[2 * size:len(heard) // size * size - 2 * size]
    if len(body) < size:
        return 0
    power = numpy.sqrt(numpy.mean(body[:len(body) // size * size].reshape(-1, size) ** 2, axis=1))
    return int(numpy.sum(power < 0.1 * max(numpy.median(power), 1e-4)))


def judge(mouth, ear):
    """The figures of a run."""
    said, heard = mouth.samples(), ear.samples()
    when_said, when_heard = mouth.clock(), ear.clock()
    ear_begin = ear.arrivals[0][0]
    rows, gaps, missed = [], 0, 0
    for begin in chirps_of(said):
        moment = float(when_said(begin))
        if moment < ear_begin + SETTLING:
            continue
        # About where the moment is in the other recording.
        first = int((moment - float(when_heard(0))) * RATE) - RATE // 100
        first -= int((float(when_heard(first)) - moment + 0.01) * RATE)
        part = heard[max(first, 0):first + int((LONGEST_DELAY + CHIRP) * RATE)]
        if first < 0 or len(part) < int((LONGEST_DELAY + CHIRP) * RATE):
            continue
        match = likeness(part)[:int(EVERY * RATE)]
        best = int(numpy.argmax(match))
        if match[best] < 0.05 * float(numpy.sum(chirp() ** 2)):
            missed += 1
            continue
        gaps += silent(part[best:best + int(CHIRP * RATE)])
        rows.append((moment, float(when_heard(first + best)) - moment))
    if len(rows) < 3:
        raise CannotRun("the chirps were not heard")
    return figures(numpy.array(rows), gaps, missed)


def figures(rows, gaps, missed):
    moments, delays = rows[:, 0] - rows[0, 0], rows[:, 1] * 1000
    steps = numpy.abs(numpy.diff(delays)) > STEP * 1000
    return {
        "chirps": len(rows), "missed": missed, "seconds": round(float(moments[-1]), 1),
        "median_ms": round(float(numpy.median(delays)), 1), "p95_ms": round(float(numpy.percentile(delays, 95)), 1),
        "least_ms": round(float(delays.min()), 1), "most_ms": round(float(delays.max()), 1),
        "trend_ms_per_min": round(float(numpy.polyfit(moments, delays, 1)[0] * 60), 2),
        "steps": int(steps.sum()), "silent_windows": gaps,
        "per_quarter_ms": [round(float(numpy.median(part)), 1) for part in numpy.array_split(delays, 4)],
    }


def measure(options, phone, ptime, drift):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringtrue-ear-"))
    rig = Rig(directory)
    try:
        rig.serve("alice", 0)
        rig.serve("bob", drift)
        write_chirps(directory / "chirps.raw", options.seconds + 60)
        rig.play("alice", "alice_microphone", directory / "chirps.raw")
        program = options.ringtrue if phone == "ringtrue" else options.baresip
        phones = PHONES[phone](rig, program, ptime, options.seconds, options.option)
        recordings = rig.record([("alice", "alice_microphone.monitor"), ("bob", "bob_speaker.monitor")],
                                options.seconds + SETTLING, phones)
    finally:
        rig.stop()
        if not options.keep:
            shutil.rmtree(directory)
    if options.keep:
        print(f"logs: {directory}", file=sys.stderr)
        for name, recording in zip(("mouth", "ear"), recordings):
            (directory / f"{name}.raw").write_bytes(recording.data)
    row = {"phone": phone, "ptime": ptime or 20, "drift_ppm": drift}
    row.update(judge(*recordings))
    row["load"] = round(os.getloadavg()[0], 1)
    return row


def check_rig(options):
    """The same monitor, recorded twice: what the rig itself adds."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringtrue-ear-"))
    rig = Rig(directory)
    try:
        rig.serve("alice", 0)
        write_chirps(directory / "chirps.raw", 60)
        rig.play("alice", "alice_microphone", directory / "chirps.raw")
        recordings = rig.record([("alice", "alice_microphone.monitor")] * 2, 8 + SETTLING, [])
    finally:
        rig.stop()
        shutil.rmtree(directory)
    return {"phone": "none (the rig's own error)", "ptime": 0, "drift_ppm": 0, **judge(*recordings)}


class Awake:
    """Keeps the processors awake: one process each that runs when nothing else does."""

    def __init__(self, wanted):
        self.count = os.cpu_count() if wanted else 0
        self.processes = []

    def __enter__(self):
        for _ in range(self.count):
            # It gives way to everything else at once.
            process = subprocess.Popen([sys.executable, "-c", "import os\n"
                                        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
                                        "while True: pass"])
            self.processes.append(process)

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30, help="length of each run")
    parser.add_argument("--phone", action="append", choices=sorted(PHONES), help="default: all")
    parser.add_argument("--ptime", action="append", type=int, help="milliseconds of a packet; default 10 and 20")
    parser.add_argument("--drift", action="append", type=float, help="parts per million that bob's sound clock is off")
    parser.add_argument("--awake", action="store_true", help="do not let idle processors sleep")
    parser.add_argument("--ringtrue", default="ringtrue")
    parser.add_argument("--baresip", default="baresip")
    parser.add_argument("--option", action="append", default=[], help="a further option of both ringtrue phones")
    parser.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    parser.add_argument("--keep", action="store_true", help="keep logs and recordings")
    options = parser.parse_args()
    missing = [tool for tool in ("pulseaudio", "pactl", "pacat", "parec", "cc") if shutil.which(tool) is None]
    if missing:
        print(f"mouth-to-ear: missing: {' '.join(missing)}", file=sys.stderr)
        return CANNOT_RUN
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    head = f"{'phone':10} {'ptime':>5} {'drift':>6} {'median':>7} {'95 %':>6} {'least':>6} {'most':>6} {'ms/min':>7} " \
           f"{'steps':>5} {'silent':>6} {'missed':>6} {'chirps':>6} {'load':>5}  medians of quarters"
    if not options.json:
        print(head, flush=True)
    status = 0
    runs = [("rig", 0, 0)]
    runs += [(phone, ptime, drift) for drift in options.drift or [0] for ptime in options.ptime or [10, 20]
             for phone in options.phone or sorted(PHONES, reverse=True)]
    for phone, ptime, drift in runs:
        try:
            with Awake(options.awake):
                row = check_rig(options) if phone == "rig" else measure(options, phone, ptime, drift)
        except CannotRun as error:
            print(f"{phone} {ptime} ms: {error}", file=sys.stderr)
            status = 1
            continue
        if options.json:
            print(json.dumps(row), flush=True)
        else:
            print(f"{row['phone'][:10]:10} {row['ptime']:5} {row['drift_ppm']:6g} {row['median_ms']:7.1f} {row['p95_ms']:6.1f} "
                  f"{row['least_ms']:6.1f} {row['most_ms']:6.1f} {row['trend_ms_per_min']:7.2f} {row['steps']:5} "
                  f"{row['silent_windows']:6} {row['missed']:6} {row['chirps']:6} {row.get('load', 0):5.1f}  {row['per_quarter_ms']}",
                  flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
