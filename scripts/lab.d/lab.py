"""The NAT laboratory; started by scripts/lab, which checks what it needs."""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import cases
import ports
import survive
from network import NAT_KINDS, Internet, LabError
from places import HAIRPIN
from servers import STUN, Servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
JUDGE_TEST = pathlib.Path(__file__).parent / "test_trace.py"
PROBE = pathlib.Path(__file__).parent / "stun_probe.py"
KINDS_BY_RFC_5780 = {
    "open": "endpoint-independent endpoint-independent",
    "full-cone": "endpoint-independent endpoint-independent",
    "address-restricted": "endpoint-independent address-dependent",
    "port-restricted": "endpoint-independent address-and-port-dependent",
    "symmetric": "address-and-port-dependent address-and-port-dependent",
    "tcp-only": "blocked blocked",
    "udp-blocked": "blocked blocked",
}


def binary():
    """The program under test: $RINGTRUE, or the debug build, made when it is missing."""
    if os.environ.get("RINGTRUE"):
        return pathlib.Path(os.environ["RINGTRUE"]).resolve()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = target / "debug" / "ringtrue"
    if not program.exists():
        print("building ringtrue (cargo build --locked) ...", flush=True)
        if subprocess.run(["cargo", "build", "--locked", "-p", "ringtrue"], cwd=ROOT).returncode != 0:
            raise LabError("ringtrue does not build")
    return program.resolve()


def knows_tls(program):
    """Whether it reaches TURN servers over TLS."""
    return "--tls-ca" in subprocess.run([program, "call", "--help"], text=True, capture_output=True).stdout


def heard(measured):
    if measured is None or measured.total == 0:
        return "-"
    gap = f" gap {measured.longest_gap * 1000:.0f} ms" if measured.longest_gap > 0.04 else ""
    return f"{measured.total:.1f} s{gap}"


def row(case, outcome):
    verified = {True: "yes", False: "no", None: "-"}[outcome.verified]
    exits = "/".join("-" if status is None else str(status) for status in outcome.exits)
    rang = "no" if not outcome.rang else "yes" if outcome.ring_ms is None else f"{outcome.ring_ms:.0f} ms"
    return [case.name, case.expected, rang, verified, heard(outcome.a_to_b),
            heard(outcome.b_to_a), exits, f"{outcome.seconds:.1f}", "ok" if not outcome.failures else "FAILED"]


def print_table(results):
    heads = ["pairing (caller:callee)", "expected", "rang after", "verified", "heard a->b", "heard b->a", "exits", "seconds",
             "verdict"]
    rows = [heads] + [row(case, outcome) for case, outcome in results]
    widths = [max(len(line[column]) for line in rows) for column in range(len(heads))]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def attempt(internet, case, number, directory, program):
    try:
        return cases.Call(internet, case, number, directory, program).run()
    except Exception as error:  # One broken call must not hide the others.
        failed = cases.Outcome()
        failed.failures.append(f"{type(error).__name__}: {error}")
        return failed


def run_cases(chosen, options, program, directory):
    """Runs the calls side by side and returns (case, outcome) in the given order."""
    internet = Internet(options.prefix, options.loss)
    servers = None
    executor = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        servers = Servers(internet, directory)
        # Calls without a path take longest: they go first.
        order = sorted(enumerate(chosen), key=lambda entry: entry[1].expected != "no path")
        pending = {executor.submit(attempt, internet, case, number, directory, program): (number, case)
                   for number, case in order}
        outcomes = {}
        for done in concurrent.futures.as_completed(pending):
            number, case = pending[done]
            outcomes[number] = done.result()
            verdict = "; ".join(outcomes[number].failures) or "as expected"
            print(f"[{len(outcomes)}/{len(chosen)}] {case.name}: {verdict}", flush=True)
        return [(case, outcomes[number]) for number, case in enumerate(chosen)]
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        if servers:
            servers.stop()
        internet.remove()


def report(results, directory, keep):
    """Prints the table; returns the exit status."""
    print()
    print_table(results)
    print()
    failed = [(case, outcome) for case, outcome in results if outcome.failures]
    for case, outcome in failed:
        for failure in outcome.failures:
            print(f"FAILED {case.name}: {failure}")
    ghosts = sum(outcome.rang and not outcome.both_heard for case, outcome in results if case.expected != "ghost ring")
    print(f"{len(results)} calls, {len(results) - len(failed)} as expected, {len(failed)} failed; ghost rings: {ghosts}")
    if failed or keep:
        print(f"logs, recordings and captures: {directory}")
    else:
        shutil.rmtree(directory)
    return 1 if failed else 0


def choose(available, wanted):
    """Cases whose name, one NAT kind or phone was named; all when nothing was."""
    if not wanted:
        return available
    chosen = []
    for word in wanted:
        matching = [case for case in available if word == case.name] or [
            case for case in available if word in (case.caller, case.callee, case.caller_phone, case.callee_phone,
                                                  f"{case.caller}:{case.callee}")]
        if not matching:
            raise LabError(f"no pairing is called {word}; there are: {', '.join(case.name for case in available)}")
        chosen += [case for case in matching if case not in chosen]
    return chosen


def run_verb(options, directory):
    if options.verb == "run":
        with_turn = cases.turn_pairings(tls=knows_tls(binary()))
        available = with_turn if options.turn else cases.pairings()
        if options.short and not options.pairing:
            available = [case for case in cases.pairings() + with_turn if case.name in cases.SHORT]
        chosen = choose(available, options.pairing)
    elif options.verb == "foreign":
        chosen = choose(cases.foreign_calls(), options.pairing)
    elif options.verb == "aioice":
        chosen = choose(cases.aioice_calls(), options.pairing)
    else:
        chosen = choose(cases.ordinary_calls(), options.pairing)
    program = None if options.verb == "ordinary" else binary()
    # Were the judge wrong, the verdicts would be worth nothing.
    if subprocess.run([sys.executable, str(JUDGE_TEST)], capture_output=True).returncode != 0:
        raise LabError(f"the judge fails its own test: python3 {JUDGE_TEST}")
    started = time.monotonic()
    results = run_cases(chosen, options, program, directory)
    status = report(results, directory, options.keep)
    print(f"{time.monotonic() - started:.0f} seconds")
    return status


def nats_verb(options, directory):
    """Measures every NAT from behind it, by RFC 5780 with coturn as the server."""
    internet = Internet(options.prefix)
    servers = None
    wrong = 0
    try:
        servers = Servers(internet, directory)
        for kind in NAT_KINDS:
            host = internet.host(kind, kind)
            found = host.run("python3", str(PROBE), STUN).strip()
            right = found == KINDS_BY_RFC_5780[kind]
            wrong += not right
            mapping, filtering = found.split()
            print(f"{kind:20} mapping {mapping:28} filtering {filtering:28} {'ok' if right else 'WRONG'}")
    finally:
        if servers:
            servers.stop()
        internet.remove()
    shutil.rmtree(directory)
    return 1 if wrong else 0


def survive_verb(options, directory):
    return survive.verb(options, directory, binary())


def ports_verb(options, directory):
    """Calls by ports that a real miniupnpd maps, for each protocol."""
    program = binary()
    internet = Internet(options.prefix)
    try:
        failed = ports.run(internet, directory, program, options.pairing)
    finally:
        internet.remove()
    if failed or options.keep:
        print(f"logs and recordings: {directory}")
    else:
        shutil.rmtree(directory)
    return 1 if failed else 0


def shell_verb(options, directory):
    """A host behind the named NAT, and a second one on the open Internet to talk to."""
    kind = options.pairing[0] if options.pairing else "port-restricted"
    if kind not in NAT_KINDS + [HAIRPIN]:
        raise LabError(f"no NAT is called {kind}; there are: {', '.join(NAT_KINDS + [HAIRPIN])}")
    internet = Internet(options.prefix, options.loss)
    servers = None
    try:
        servers = Servers(internet, directory)
        host = internet.host("alice", kind)
        friend = internet.host("bob", "open")
        print(f"you are {host.address} behind {kind}; bob is {friend.address} "
              f"(ip netns exec {friend.name} bash); proxy 198.51.100.2, STUN {STUN}; `exit` takes it all away")
        host.popen([os.environ.get("SHELL", "bash")]).wait()
    finally:
        if servers:
            servers.stop()
        internet.remove()
    return 0


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/lab")
    parser.add_argument("verb", choices=["run", "foreign", "aioice", "ordinary", "survive", "nats", "ports", "shell"])
    parser.add_argument("pairing", nargs="*")
    parser.add_argument("--short", action="store_true", help="a handful of pairings")
    parser.add_argument("--turn", action="store_true", help="give both phones the TURN server")
    parser.add_argument("--jobs", type=int, default=4, help="calls side by side")
    parser.add_argument("--loss", type=float, default=0.0, help="percent of the UDP packets to lose on the Internet")
    parser.add_argument("--keep", action="store_true", help="keep logs, recordings and captures also on success")
    options = parser.parse_intermixed_args()
    options.prefix = os.environ["LAB_PREFIX"]
    return options


def interrupted(number, _frame):
    raise KeyboardInterrupt(number)


def main():
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    directory = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "lab" / f"{options.verb}-{os.getpid()}"
    directory.mkdir(parents=True)
    verb = {"nats": nats_verb, "ports": ports_verb, "shell": shell_verb, "survive": survive_verb}.get(options.verb, run_verb)
    try:
        status = verb(options, directory.resolve())
    except LabError as error:
        print(f"scripts/lab: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt as signalled:
        print("scripts/lab: interrupted; cleaning up", file=sys.stderr)
        status = 128 + (signalled.args[0] if signalled.args else 2)
    sys.stdout.flush()
    # Not sys.exit: that would wait for calls whose namespaces are gone.
    os._exit(status)


if __name__ == "__main__":
    main()
