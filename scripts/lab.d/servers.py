"""The real servers: Kamailio as registrar and proxy, coturn as STUN and TURN server."""

import pathlib
import signal
import subprocess
import time

from network import LabError

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "config"
PROXY = "198.51.100.2"
STUN = "198.51.100.6"
STUN_OTHER = "198.51.100.10"
# The user of config/turnserver.conf.
TURN = f"turn:lab@{STUN}"
TURN_PASSWORD = "relayed"


class Servers:
    """Both servers, started and ready."""

    def __init__(self, internet, directory):
        self.directory = directory
        self.processes = []
        kamailio = internet.namespace("kamailio")
        internet.attach(kamailio, "eth0", PROXY)
        coturn = internet.namespace("coturn")
        internet.attach(coturn, "eth0", STUN)
        internet.attach(coturn, "eth1", STUN_OTHER)
        # An answer leaves by the address that it names.
        coturn.ip(f"rule add from {STUN_OTHER} table 2", "route add default dev eth1 via 198.51.100.9 table 2")
        self._start(coturn, "coturn", ["turnserver", "-c", str(CONFIG / "turnserver.conf"),
                                       f"--listening-ip={STUN}", f"--listening-ip={STUN_OTHER}", f"--relay-ip={STUN}",
                                       f"--pidfile={directory}/turnserver.pid", "--userdb", f"{directory}/turndb"])
        self._start(kamailio, "kamailio", ["kamailio", "-f", str(CONFIG / "kamailio.cfg"), "-DD", "-E",
                                           "-m", "64", "-M", "8", "-Y", str(directory),
                                           "-l", f"udp:{PROXY}:5060", "-l", f"tcp:{PROXY}:5060"])
        self._ready(kamailio, "tcp", 5060, "kamailio")
        self._ready(coturn, "udp", 3478, "coturn")

    def _start(self, namespace, name, command):
        log = open(self.directory / f"{name}.log", "wb")
        process = namespace.popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        self.processes.append((name, process))

    def _ready(self, namespace, protocol, port, name):
        for _ in range(100):
            if f":{port} " in namespace.run("ss", "-Hln", "--" + protocol):
                return
            time.sleep(0.1)
        raise LabError(f"{name} does not listen; see {self.directory}/{name}.log")

    def stop(self):
        for _, process in self.processes:
            process.send_signal(signal.SIGTERM)
        for _, process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
