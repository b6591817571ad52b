"""Today's phones, without a screen or a sound card: baresip, linphonec, SIPp.

Configurations that were found to work with the versions of Debian 12
(baresip 1.0.0, linphonec 5.1, SIPp 3.6); each class says what it took.
"""

import os
import pathlib
import subprocess
import time

import sound
from phones import end
from servers import PROXY, STUN

BARESIP_MODULES = "/usr/lib/baresip/modules"
LINPHONE_SETTINGS = """[sip]
sip_port=5060
sip_tcp_port=-1
sip_tls_port=-1
use_ipv6=0
default_proxy=0
contact="{user}" <sip:{user}@{address}>
register_only_when_network_is_up=0
auto_net_state_mon=0

[proxy_0]
reg_proxy=<sip:{proxy};transport=udp>
reg_route=<sip:{proxy};transport=udp;lr>
reg_identity=<sip:{user}@{proxy}>
reg_expires=3600
reg_sendregister=1
publish=0
nat_policy_ref=lab

[nat_policy_0]
ref=lab
stun_server={stun}
protocols=stun,ice

[net]
nat_policy_ref=lab
stun_server={stun}
firewall_policy=ice
dns_srv_enabled=0

[rtp]
audio_rtp_port=7078
"""


class ForeignPhone:
    """What all of them share: a directory of their own, a log, a way to be typed at."""

    established = b""   # what it prints when its call is up
    incoming = b""      # what it prints when it is called
    accept = ""         # what to type to pick up
    can_ice = True

    def __init__(self, host, directory, user, tone):
        self.host, self.user, self.tone = host, user, tone
        self.directory = pathlib.Path(directory) / f"{user}-{type(self).__name__.lower()}"
        self.directory.mkdir(parents=True)
        self.process = None

    def _start(self, command):
        environment = dict(os.environ, HOME=str(self.directory), XDG_CONFIG_HOME=str(self.directory),
                           XDG_DATA_HOME=str(self.directory), TERM="dumb")
        (self.directory / "command").write_text(" ".join(command) + "\n")
        with open(self.directory / "output", "wb") as out:
            self.process = self.host.popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
                                           env=environment, cwd=self.directory)

    def type(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def await_output(self, text, patience):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            if text in (self.directory / "output").read_bytes():
                return True
            time.sleep(0.05)
        return text in (self.directory / "output").read_bytes()

    def pick_up(self):
        """Lets it ring for a second, then answers."""
        if self.accept and self.await_output(self.incoming, 5):
            time.sleep(1)
            self.type(self.accept)

    def hang_up(self):
        """Ends the call in order, where the phone can be told to."""

    def stop(self):
        if self.process is not None:
            end(self.process)
            self.process.stdin.close()


class Baresip(ForeignPhone):
    """ausine as the microphone (it wants 48 kHz and two channels), aubridge as a
    speaker that needs no device, and sndfile to record what was decoded. The path of
    a recording must be short: it has 128 bytes, and cuts the name off that tells
    what was heard from what was said."""

    program = "baresip"
    established = b"Call established"
    incoming, accept = b"Incoming call from", "a"

    def _settings(self, tcp):
        (self.directory / "config").write_text(f"""sip_listen 0.0.0.0:5060
audio_player aubridge,speaker
audio_source ausine,{self.tone}
audio_alert aubridge,alert
ausrc_srate 48000
auplay_srate 48000
ausrc_channels 2
auplay_channels 2
rtcp_mux yes
snd_path .
ice_turn no
ice_debug yes
module_path {BARESIP_MODULES}
module opus.so
module g711.so
module ausine.so
module aubridge.so
module sndfile.so
module stun.so
module ice.so
module stdio.so
module_tmp account.so
module_app menu.so
""")
        (self.directory / "accounts").write_text(
            f"<sip:{self.user}@{PROXY}>;auth_pass=none;regint=3600;outbound=\"sip:{PROXY}{';transport=tcp' if tcp else ''}\";medianat=ice;"
            f"stunserver=stun:{STUN}:3478;answermode=manual;audio_codecs=opus/48000/2,pcmu/8000/1\n")
        (self.directory / "contacts").write_text("")

    def _run(self, *more):
        self._start(["baresip", "-4", "-s", "-v", "-f", str(self.directory), "-p", "/usr/share/baresip", *more])
        return self.await_output(b"registered successfully", 5)

    def listen(self, tcp=False):
        self._settings(tcp)
        return self._run()

    def call(self, user, tcp=False):
        self._settings(tcp)
        self._run("-e", f"/dial sip:{user}@{PROXY}")

    def hang_up(self):
        self.type("b")

    def heard(self, tone):
        recordings = sorted(self.directory.glob("dump-*-dec.wav"), key=lambda f: f.stat().st_size)
        return sound.listen(recordings[-1] if recordings else self.directory / "none", tone)


class Linphone(ForeignPhone):
    """Files instead of a sound card, by `soundcard use files`. It needs use_ipv6=0 where
    the kernel has no IPv6 (else it has no listening point at all), its data directory
    made beforehand, and auto_net_state_mon=0 since the laboratory has no DNS."""

    program = "linphonec"
    established = b"Media streams established"
    incoming, accept = b"Receiving new incoming call", "answer"

    def _run(self):
        (self.directory / ".local/share/linphone").mkdir(parents=True)
        (self.directory / "rc").write_text(
            LINPHONE_SETTINGS.format(user=self.user, address=self.host.address, proxy=PROXY, stun=STUN))
        sound.write_tone(self.directory / "tone.wav", self.tone, 30, rate=16000)
        self._start(["linphonec", "-c", "rc", "-d", "6", "-l", "debug.log"])
        self.await_output(b"linphonec>", 5)
        for line in ("soundcard use files", f"play {self.directory}/tone.wav", f"record {self.directory}/heard.wav"):
            self.type(line)
        return self._await_registration(5)

    def _await_registration(self, patience):
        deadline = time.monotonic() + patience
        log = self.directory / "debug.log"
        while time.monotonic() < deadline:
            if log.exists() and b"LinphoneRegistrationOk" in log.read_bytes():
                return True
            time.sleep(0.1)
        return False

    def listen(self, tcp=False):
        return self._run()

    def call(self, user, tcp=False):
        self._run()
        self.type(f"call sip:{user}@{PROXY}")

    def hang_up(self):
        self.type("terminate")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.type("quit")
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        super().stop()

    def heard(self, tone):
        return sound.listen(self.directory / "heard.wav", tone)


class Sipp(ForeignPhone):
    """The built-in scenarios, which know neither ICE nor record routes. They carry no
    sound: what arrives at the port that they offer is led to rtp_voice.py instead."""

    program = "sipp"
    can_ice = False
    PORT, VOICE = 6000, 16000

    def _run(self, *scenario):
        address = self.host.address
        voice = pathlib.Path(__file__).parent / "rtp_voice.py"
        self.voice = self.host.popen(["python3", str(voice), address, str(self.VOICE), str(self.tone),
                                      str(self.directory / "heard.wav")])
        self.host.run("nft", "add table ip voice; add chain ip voice in { type nat hook prerouting priority dstnat; };"
                      f" add rule ip voice in udp dport {self.PORT} redirect to :{self.VOICE}")
        self._start(["sipp", "-sn", *scenario, "-i", address, "-p", "5060", "-mi", address, "-mp", str(self.PORT),
                     "-nostdin", "-m", "1", "-trace_msg", "-message_file", "messages", "-timeout", "30",
                     *([PROXY] if scenario[0] == "uac" else [])])

    def listen(self, tcp=False):
        self._register()
        self._run("uas")
        time.sleep(0.3)
        return True

    def call(self, user, tcp=False, duration=5):
        self._run("uac", "-s", user, "-d", str(duration * 1000))

    def stop(self):
        super().stop()
        end(self.voice)

    def _register(self):
        """SIPp does not register; Kamailio is told where it waits."""
        me = f"{self.host.address}:5060"
        request = (f"REGISTER sip:{PROXY} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bKlab{os.getpid()}{self.user}\r\n"
                   f"From: <sip:{self.user}@{PROXY}>;tag=1\r\nTo: <sip:{self.user}@{PROXY}>\r\n"
                   f"Call-ID: lab-{self.user}-{os.getpid()}\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n"
                   f"Contact: <sip:{self.user}@{me}>;expires=3600\r\nContent-Length: 0\r\n\r\n")
        program = ("import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); "
                   f"s.bind((sys.argv[1], 5060)); s.sendto(sys.argv[2].encode(), ('{PROXY}', 5060)); "
                   "sys.exit(b' 200 ' not in s.recv(4096)[:16])")
        self.host.run("python3", "-c", program, self.host.address, request)

    def heard(self, tone):
        return sound.listen(self.directory / "heard.wav", tone)


class Aioice(ForeignPhone):
    """PyPI's aioice under a little SIP (aioice_phone.py), with the Python that has it. It rings when its
    checks are done, and picks up by itself."""

    program = "aioice"
    established = b"established"
    incoming = b"ringing"

    def _run(self, *verb):
        phone = pathlib.Path(__file__).parent / "aioice_phone.py"
        self._start([os.environ["AIOICE_PYTHON"], str(phone), *verb, "--user", self.user, "--address", self.host.address,
                     "--proxy", PROXY, "--stun", STUN, "--tone", str(self.tone),
                     "--recording", str(self.directory / "heard.wav")])

    def listen(self, tcp=False):
        self._run("listen")
        return self.await_output(b"registered", 5)

    def call(self, user, tcp=False):
        self._run("call", user)

    def hang_up(self):
        self.type("b")

    def heard(self, tone):
        return sound.listen(self.directory / "heard.wav", tone)


FOREIGN = {"baresip": Baresip, "linphone": Linphone, "sipp": Sipp}
