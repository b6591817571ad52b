"""A call between two phones that use sound devices: PulseAudio null sinks, or with
--pipewire those of PipeWire, which speaks PulseAudio's language.

    tone 1150 -> alice_microphone .monitor -> alice =call=> bob -> bob_speaker .monitor -> recording
    tone 700 -> bob_microphone    .monitor -> bob   =call=> alice -> alice_speaker .monitor -> recording

Needs no root and touches no sound server of the user: everything lives in a
directory of its own.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import sound
from lab import binary
from network import LabError

HERE = pathlib.Path(__file__).parent
TALK = 12                # seconds of the call
HEARD_ENOUGH = 10.0      # seconds of tone that must arrive
LONGEST_GAP = 0.040
RESOLUTION = 0.001       # of a measured gap
CANNOT_RUN = 77
# Far from the ring tone and the ring-back tone, which the speakers play before the call.
ALICE_TONE, BOB_TONE = 1150, 700
SINKS = ["alice_microphone", "alice_speaker", "bob_microphone", "bob_speaker"]


class SoundCheck:
    """A sound server, two phones, two players, two recorders; all ended by their ids."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        runtime = self.directory / "pulse"
        runtime.mkdir(mode=0o700)
        self.environment = dict(os.environ, HOME=str(directory), XDG_RUNTIME_DIR=str(directory),
                                XDG_CONFIG_HOME=str(directory), PULSE_RUNTIME_PATH=str(runtime),
                                PULSE_SERVER=f"unix:{runtime}/native", RUST_BACKTRACE="1")
        # The server lets anybody in, yet breaks off with a client that shows no cookie of this length.
        cookie = self.directory / "cookie"
        cookie.write_bytes(os.urandom(256))
        self.environment["PULSE_COOKIE"] = str(cookie)
        self.processes = []

    def start(self, name, *command):
        with open(self.directory / f"{name}.out", "wb") as out, open(self.directory / f"{name}.err", "wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       env=self.environment, cwd=self.directory)
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

    def serve_by_pipewire(self):
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={self.directory}/bus"
        self.start("dbus", "dbus-daemon", "--session", "--nofork", f"--address=unix:path={self.directory}/bus")
        for server, socket in (("pipewire", "pipewire-0"), ("pipewire-pulse", "pulse/native")):
            self.start(server, server)
            for _ in range(100):
                if (self.directory / socket).exists():
                    break
                time.sleep(0.1)
        self.start("wireplumber", "wireplumber")
        for sink in SINKS:
            self.ask("load-module", "module-null-sink", f"sink_name={sink}", "rate=48000", "channels=1")
        self.await_sinks("pipewire-pulse")

    def ask(self, *request):
        done = subprocess.run(["pactl", *request], env=self.environment, capture_output=True, text=True)
        return done.stdout

    def serve(self):
        self.start("pulseaudio", "pulseaudio", "-n", "-F", str(HERE / "pulse.pa"), "--daemonize=no",
                   "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--realtime=no", "--high-priority=no")
        self.await_sinks("pulseaudio")

    def await_sinks(self, server):
        for _ in range(100):
            sinks = self.ask("list", "short", "sinks")
            if all(sink in sinks for sink in SINKS):
                return
            time.sleep(0.1)
        raise LabError(f"{server} did not start: {(self.directory / f'{server}.err').read_text()}")

    def play(self, hertz, sink):
        sound.write_tone(self.directory / f"{hertz}.wav", hertz, TALK + 20)
        self.start(f"play-{hertz}", "paplay", f"--device={sink}", "--latency-msec=100", f"{hertz}.wav")

    def record(self, speaker):
        self.start(f"record-{speaker}", "parec", f"--device={speaker}.monitor", "--file-format=wav",
                   "--rate=48000", "--channels=1", "--format=s16le", "--latency-msec=100", f"{speaker}.wav")

    def devices(self, program):
        listed = subprocess.run([str(program), "devices"], env=self.environment, capture_output=True, text=True)
        print(listed.stdout)
        missing = [sink for sink in SINKS if sink not in listed.stdout]
        if listed.returncode != 0 or missing:
            raise LabError(f"`ringtrue devices` does not list {', '.join(missing)}; {listed.stderr.strip()}")

    def call(self, program):
        """Both exit codes."""
        port = free_port()
        bob = self.start("bob", str(program), "listen", "--bind", f"127.0.0.1:{port}", "--answer", "after:1", "--once",
                         "--json", "--audio-in", "bob_microphone.monitor", "--audio-out", "bob_speaker")
        for _ in range(100):
            if b'"listening"' in (self.directory / "bob.out").read_bytes() or bob.poll() is not None:
                break
            time.sleep(0.1)
        alice = self.start("alice", str(program), "call", f"sip:bob@127.0.0.1:{port}", "--bind", "127.0.0.1", "--json",
                           "--duration", str(TALK), "--audio-in", "alice_microphone.monitor",
                           "--audio-out", "alice_speaker")
        exits = []
        for process in (alice, bob):
            try:
                exits.append(process.wait(TALK + 20))
            except subprocess.TimeoutExpired:
                exits.append(None)
        return exits


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def judge(directory, exits):
    failures = []
    if exits != [0, 0]:
        failures.append(f"exit codes {exits}, expected 0 and 0")
    for listener, speaker, hertz in (("bob", "bob_speaker", ALICE_TONE), ("alice", "alice_speaker", BOB_TONE)):
        heard = sound.listen(directory / f"{speaker}.wav", hertz)
        print(f"{listener} heard {hertz} Hz for {heard.total:.2f} s, longest gap {heard.longest_gap * 1000:.0f} ms")
        if heard.total < HEARD_ENOUGH:
            failures.append(f"{listener} heard less than {HEARD_ENOUGH:.0f} s")
        if heard.longest_gap > LONGEST_GAP + RESOLUTION:
            failures.append(f"{listener} heard a gap of {heard.longest_gap * 1000:.0f} ms")
    return failures


def main():
    pipewire = "--pipewire" in sys.argv
    servers = ["dbus-daemon", "pipewire", "pipewire-pulse", "wireplumber"] if pipewire else ["pulseaudio"]
    missing = [tool for tool in (*servers, "pactl", "paplay", "parec") if shutil.which(tool) is None]
    if missing:
        packages = "dbus pipewire pipewire-pulse wireplumber" if pipewire else "pulseaudio"
        print(f"scripts/lab pulse: missing: {' '.join(missing)} (packages {packages} pulseaudio-utils)", file=sys.stderr)
        return CANNOT_RUN
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringtrue-sound-"))
    check = SoundCheck(directory)
    try:
        program = binary()
        check.serve_by_pipewire() if pipewire else check.serve()
        check.devices(program)
        check.play(ALICE_TONE, "alice_microphone")
        check.play(BOB_TONE, "bob_microphone")
        check.record("bob_speaker")
        check.record("alice_speaker")
        exits = check.call(program)
    except LabError as error:
        exits, failures = None, [str(error)]
    finally:
        check.stop()
    if exits is not None:
        failures = judge(directory, exits)
    for failure in failures:
        print(f"FAILED {failure}")
    if failures or "--keep" in sys.argv:
        print(f"logs and recordings: {directory}")
    else:
        shutil.rmtree(directory)
        print("sound check: ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
