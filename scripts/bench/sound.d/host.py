"""What ran the measurement, and what else kept that machine busy meanwhile."""

import os
import pathlib
import platform
import re
import subprocess
from importlib import metadata


def _first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def _package(name):
    return _first_line("dpkg-query", "-W", "-f", "${Version}", name)


def conditions(binary):
    """Versions and the kind of machine; nothing that names this one."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "machine": f"{os.cpu_count()} cores, {model.group(1) if model else platform.machine()}",
        "kernel": platform.release().split("-")[0],
        "ringtrue": _first_line(str(binary), "--version"),
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
        "baresip": _package("baresip-core"),
        "baresip's libopus": _package("libopus0"),
        "flite": _package("flite"),
        "espeak-ng": _package("espeak-ng"),
        "pesq": metadata.version("pesq"),
        "pystoi": metadata.version("pystoi"),
    }


class Busy:
    """The share of the machine's time that was used between two looks, by anybody."""

    def __init__(self):
        self.used, self.all = self._look()

    @staticmethod
    def _look():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return sum(fields) - idle, sum(fields)

    def percent(self):
        used, total = self._look()
        return round(100 * (used - self.used) / max(1, total - self.all), 1)
