"""The phones under test, each a real process: ringtrue, and Debian's baresip."""

import os
import pathlib
import subprocess
import time

import speech
from place import ADDRESSES, end

BARESIP_MODULES = "/usr/lib/baresip/modules"
TICKS = os.sysconf("SC_CLK_TCK")
# Above whatever else this machine does: a late phone is not what is judged. Nothing where that is not allowed.
FAVOUR = ["nice", "-n", "-5"]


def clean_environment(directory):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGTRUE_")}
    return dict(environment, HOME=str(directory), XDG_CONFIG_HOME=str(directory), TERM="dumb")


class Phone:
    """What both have in common: a directory, a process, what it costs."""

    def __init__(self, directory, name, run=subprocess.Popen):
        """`run` starts a process where the phone lives: `Place.popen` of its side, or plainly."""
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir(parents=True)
        self.name, self.run = name, run
        self.process = None
        self.prefix = []        # what starts the phone, as `taskset -c 0`

    def start(self, command):
        (self.directory / "command").write_text(" ".join(command) + "\n")
        with open(self.directory / "output", "wb") as out, open(self.directory / "errors", "wb") as errors:
            self.process = self.run([*FAVOUR, *self.prefix, *command], stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=errors, env=clean_environment(self.directory), cwd=self.directory)

    def await_output(self, text, patience, times=1):
        """Waits until it has printed `text` so often."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            if (self.directory / "output").read_bytes().count(text) >= times:
                return True
            time.sleep(0.02)
        return (self.directory / "output").read_bytes().count(text) >= times

    def cpu_seconds(self):
        """What the process has used of a core so far, or None when it is no more."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self):
        """Resident memory now (VmRSS), in MB of 2^20."""
        try:
            for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        except OSError:
            pass
        return None

    def stop(self):
        if self.process is not None:
            end(self.process)


class Ringtrue(Phone):
    """`ringtrue` as a user starts it; codec settings are its defaults, but that in a crowd the encoder works as hard as
    baresip's."""

    program = "ringtrue"
    binary = "ringtrue"
    established = b'"event":"answered"'
    CODECS = {"opus": "opus", "pcmu": "pcmu"}
    records_every_call = True

    def _options(self, user, codec, reference, more):
        speech.write(self.directory / "said.wav", reference)
        return ["--aor", f"sip:{user}", "--codec", self.CODECS[codec], "--json",
                "--audio-in", str(self.directory / "said.wav"), "--audio-out", str(self.directory / "heard.wav"), *more]

    def listen(self, codec, reference, more=()):
        self.start([str(self.binary), "listen", "--answer", "auto",
                    *self._options(f"bob@{ADDRESSES[1]}", codec, reference, more)])
        return self.await_output(b'"event":"listening"', 10)

    def call(self, codec, reference, seconds, more=()):
        self.start([str(self.binary), "call", f"sip:bob@{ADDRESSES[1]}", "--duration", str(int(seconds) + 2),
                    *self._options(f"{self.name}@{ADDRESSES[0]}", codec, reference, more)])

    def _as_hard(self):
        settings = self.directory / "settings.toml"
        settings.write_text("opus-complexity = 5\n")
        return ["--config", str(settings)]

    def answer_many(self, codec, reference, calls):
        return self.listen(codec, reference, more=["--max-calls", str(calls), *self._as_hard()])

    def call_from(self, codec, reference, seconds, number):
        """Calls as one of many on this host."""
        self.call(codec, reference, seconds, more=self._as_hard())

    def recording(self, number=1):
        """Of its first call, or a later one."""
        return self.directory / ("heard.wav" if number == 1 else f"heard-{number}.wav")


class Baresip(Phone):
    """baresip with aufile as its microphone (the file must have the player's rate and channels), sndfile to record
    what was decoded, and aubridge as a speaker that needs no device. A recording's path must be short: it has 128
    bytes, and cuts the name off that tells what was heard from what was said."""

    program = "baresip"
    established = b"Call established"
    CODECS = {"opus": ("opus/48000/1", 48000), "pcmu": ("pcmu/8000/1", 8000)}
    # Its recordings are named by the second in which a call began.
    records_every_call = False

    def _settings(self, codec, reference, address, port=5060):
        name, rate = self.CODECS[codec]
        speech.write(self.directory / "said.wav", reference, rate)
        # Opus at the bits that Ringtrue has, mono, prepared for loss; all else as Debian ships it.
        (self.directory / "config").write_text(f"""sip_listen {address}:{port}
call_max_calls 64
audio_player aubridge,speaker
audio_source aufile,{self.directory}/said.wav
audio_alert aubridge,alert
ausrc_srate {rate}
auplay_srate {rate}
ausrc_channels 1
auplay_channels 1
opus_bitrate 40000
opus_stereo no
opus_sprop_stereo no
opus_inbandfec yes
opus_packet_loss 10
opus_complexity 5
jitter_buffer_delay 5-10
snd_path .
module_path {BARESIP_MODULES}
module opus.so
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_tmp account.so
module_app menu.so
""")
        (self.directory / "accounts").write_text(
            f"<sip:{self.name}@{address}:{port}>;regint=0;answermode=auto;audio_codecs={name}\n")
        (self.directory / "contacts").write_text("")

    def _run(self, *more):
        self.start(["baresip", "-4", "-s", "-v", "-f", str(self.directory), "-p", "/usr/share/baresip", *more])

    def listen(self, codec, reference):
        self._settings(codec, reference, ADDRESSES[1])
        self._run()
        return self.await_output(b"baresip is ready", 10)

    def call(self, codec, reference, seconds, port=5060):
        self._settings(codec, reference, ADDRESSES[0], port)
        self._run("-e", f"/dial sip:bob@{ADDRESSES[1]}")

    def answer_many(self, codec, reference, calls):
        return self.listen(codec, reference)

    def call_from(self, codec, reference, seconds, number):
        # It takes the port after its own for TLS.
        self.call(codec, reference, seconds, port=5060 + 2 * number)

    def recording(self):
        found = sorted(self.directory.glob("dump-*-dec.wav"), key=lambda file: file.stat().st_size)
        return found[-1] if found else self.directory / "none.wav"


PHONES = {phone.program: phone for phone in (Ringtrue, Baresip)}
