"""The real servers: Kamailio as registrar and proxy, coturn as STUN and TURN server."""

import pathlib
import signal
import subprocess
import time

from network import LabError, tool

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "config"
PROXY = "198.51.100.2"
STUN = "198.51.100.6"
STUN_OTHER = "198.51.100.10"
# The user of config/turnserver.conf.
TURN = f"turn:lab@{STUN}"
TURN_TLS = f"turn:lab@{STUN}:443?transport=tls"
TURN_PASSWORD = "relayed"


class Servers:
    """Both servers, started and ready. `ca.pem` in their directory is whom to trust."""

    def __init__(self, internet, directory):
        self.directory = directory
        self.processes = []
        self.commands = {}
        kamailio = internet.namespace("kamailio")
        internet.attach(kamailio, "eth0", PROXY)
        coturn = internet.namespace("coturn")
        internet.attach(coturn, "eth0", STUN)
        internet.attach(coturn, "eth1", STUN_OTHER)
        # An answer leaves by the address that it names.
        coturn.ip(f"rule add from {STUN_OTHER} table 2", "route add default dev eth1 via 198.51.100.9 table 2")
        self._certify()
        self._start(coturn, "coturn", ["turnserver", "-c", str(CONFIG / "turnserver.conf"),
                                       f"--listening-ip={STUN}", f"--listening-ip={STUN_OTHER}", f"--relay-ip={STUN}",
                                       f"--cert={directory}/turn.pem", f"--pkey={directory}/turn.key",
                                       f"--pidfile={directory}/turnserver.pid", "--userdb", f"{directory}/turndb"])
        self._start(kamailio, "kamailio", ["kamailio", "-f", str(CONFIG / "kamailio.cfg"), "-DD", "-E",
                                           "-m", "64", "-M", "8", "-Y", str(directory),
                                           "-l", f"udp:{PROXY}:5060", "-l", f"tcp:{PROXY}:5060"])
        self._ready(kamailio, "tcp", 5060, "kamailio")
        self._ready(coturn, "udp", 3478, "coturn")
        self._ready(coturn, "tcp", 443, "coturn")

    def _certify(self):
        """An authority of this run, which the phones trust, and coturn's certificate for its address."""
        names = {"ca": "/CN=laboratory", "turn": "/CN=turn"}
        for name, subject in names.items():
            tool("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                 "-keyout", self._path(f"{name}.key"), "-out", self._path(f"{name}.csr"))
        (self.directory / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\n")
        (self.directory / "turn.ext").write_text(f"basicConstraints=CA:FALSE\nsubjectAltName=IP:{STUN}\n")
        tool("openssl", "x509", "-req", "-in", self._path("ca.csr"), "-signkey", self._path("ca.key"), "-days", "2",
             "-extfile", self._path("ca.ext"), "-out", self._path("ca.pem"))
        tool("openssl", "x509", "-req", "-in", self._path("turn.csr"), "-CA", self._path("ca.pem"),
             "-CAkey", self._path("ca.key"), "-set_serial", "2", "-days", "2",
             "-extfile", self._path("turn.ext"), "-out", self._path("turn.pem"))

    def _path(self, name):
        return str(self.directory / name)

    def restart(self, name):
        """Kills a server and starts it anew: what it held is gone."""
        index = next(i for i, (known, _) in enumerate(self.processes) if known == name)
        _, process = self.processes.pop(index)
        process.kill()
        process.wait()
        namespace, command = self.commands[name]
        self._start(namespace, name, command)

    def _start(self, namespace, name, command):
        self.commands[name] = (namespace, command)
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
