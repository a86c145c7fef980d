"""What is measured. Each function gives all of them the same load in turns, round by round, and returns
the rounds by name; a round is a dictionary of figures."""

import contextlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request

from . import machine, profile
from .lab import chat, fail, long_chat, picture_chat, say, stop

ANSWER_TOKENS = 20
CONNECTIONS = (1, 8, 32, 128)
FEW_CONNECTIONS = (2, 4, 8)
STREAM_TOKENS = 50
STREAM_INTERVAL_MS = 20
MANY_STREAMS = 9_000
# Bytes, connections at once.
BODIES = {"16 KiB of text": (long_chat(16 << 10), 8), "1 MiB picture": (picture_chat(1 << 20), 4),
          "10 MiB picture": (picture_chat(10 << 20), 2)}
MICRO = 1e6
SETTLED_S = 20


def in_turn(names, number):
    """Nobody is always the first."""
    at = number % len(names)
    return [*names[at:], *names[:at]]


def figures(seen, per):
    """Of one round, microseconds and counts for each request or event."""
    amount = seen[per]
    found = {f"cpu_{part}": seconds / amount * MICRO for part, seconds in seen.get("cpu", {}).items()}
    found["switches"] = seen.get("switches", 0) / amount
    found["amount"] = amount
    if "busy" in seen:
        found["busy"] = seen["busy"][0] / seen["busy"][1]
    for kind in ("whole", "first", "event"):
        for key, value in (seen[f"{kind}_us"] or {}).items():
            found[f"{kind}_{key}"] = value
    return found


def rounds_of(lab, names, request, rounds, per="answers", **load):
    """So many rounds after one that warms up."""
    results = {name: [] for name in names}
    for name in names:
        lab.run(name, request, **{**load, **({"seconds": 0.5} if "seconds" in load else {})})
    for number in range(rounds):
        for name in in_turn(names, number):
            results[name].append(figures(lab.measure(name, request, **load), per))
    return results


def median(results, name, key):
    return statistics.median(one[key] for one in results[name])


def ratios(results, key="cpu_all", of="weir", to="nginx"):
    return [one[key] / other[key] for one, other in zip(results[of], results[to])]


def tell(what, results, key="cpu_all", unit="us"):
    shown = ", ".join(f"{name} {median(results, name, key):.2f}" for name in results if key in results[name][0])
    say(f"  {what}: {shown} {unit}, weir/nginx {statistics.median(ratios(results, key)):.2f}")


def requests(lab, rounds, few):
    """Without a pause, on 1 to 128 connections; 32 with all rounds, the others with a few."""
    chat_request = lab.request("chat", chat(), tokens=ANSWER_TOKENS)
    found = {}
    for connections in CONNECTIONS:
        names = [*lab.proxies, "direct"] if connections == 1 else lab.proxies
        number = rounds if connections == 32 else few
        found[connections] = rounds_of(lab, names, chat_request, number, connections=connections, seconds=1)
        tell(f"{connections} connections", found[connections])
    return found


def paced(lab, rounds, rate):
    """At the same rate for all, which leaves pauses to each; and how busy the machine is then."""
    chat_request = lab.request("chat", chat(), tokens=ANSWER_TOKENS)
    names = [*lab.proxies, "direct"]
    found = rounds_of(lab, names, chat_request, rounds, connections=32, seconds=2, rate=rate)
    tell(f"{rate:.0f} requests a second", found)
    tell("the machine is busy", found, "busy", "of its time")
    tell("their answers, 99 %", found, "whole_p99")
    return found


def balance(lab, rounds):
    """How evenly few connections keep Weir's two workers busy: the lesser part of the CPU time of the
    busier one."""
    chat_request = lab.request("chat", chat(), tokens=ANSWER_TOKENS)
    found = {}
    for connections in FEW_CONNECTIONS:
        shares = []
        for one in rounds_of(lab, ["weir"], chat_request, rounds, connections=connections, seconds=1)["weir"]:
            workers = [value for key, value in one.items() if key.startswith("cpu_weir-worker")]
            shares.append(min(workers) / max(workers))
        found[connections] = shares
        say(f"  {connections} connections: the less busy worker does {min(shares):.2f} of the other")
    return found


def bodies(lab, rounds):
    """Larger requests: their rounds, and the bytes that one of them takes at most, of each byte of its body."""
    found, memory = {}, {}
    for what, (body, connections) in BODIES.items():
        request = lab.request("body", body, tokens=ANSWER_TOKENS)
        found[what] = rounds_of(lab, lab.proxies, request, rounds, connections=connections, seconds=1)
        for name, pid in lab.pids():
            before = machine.resident(pid)
            machine.forget_peak(pid)
            lab.run(name, request, connections=1, each=3)
            memory[what, name] = (machine.peak(pid) - before) / len(body)
        tell(what, found[what])
    return found, memory


def streams(lab, rounds, connections, each):
    """Many streams at once: CPU for each event, and how old an event is when it arrives."""
    request = lab.request("stream", chat(stream=True), tokens=STREAM_TOKENS,
                          interval_ms=STREAM_INTERVAL_MS, stamp=1)
    names = [*lab.proxies, "direct"]
    found = rounds_of(lab, names, request, rounds, per="events", connections=connections, each=each)
    tell(f"{connections} streams, CPU per event", found)
    tell("age of an event, median", found, "event_p50")
    return found


def others(lab, names, rounds):
    """A small load for those that need much longer for it."""
    names = ["nginx", "weir", *names]
    chat_request = lab.request("chat", chat(), tokens=ANSWER_TOKENS)
    stream = lab.request("stream", chat(stream=True), tokens=STREAM_TOKENS, interval_ms=STREAM_INTERVAL_MS)
    found = {
        "request": rounds_of(lab, names, chat_request, rounds, connections=8, seconds=2),
        "event": rounds_of(lab, names, stream, rounds, per="events", connections=20, each=1),
    }
    for what, results in found.items():
        tell(f"beside others, a {what}", results)
    return found


def memory(lab, counts):
    """What streams take that are open and nearly idle, and what is left of it afterwards."""
    request = lab.request("stream-held", chat(stream=True), tokens=4, interval_ms=4_000)
    found = {}
    for count in counts:
        found[count] = {}
        for name, pid in lab.pids():
            before = machine.proportional(pid)
            with lab.begin(name, request, connections=count, each=1, hold=True) as process:
                if process.stdout.readline().strip() != "open":
                    fail(f"{name} does not open {count} streams")
                held, resident = machine.proportional(pid), machine.resident(pid)
                lab.ended(process, name, True)
            # Idle connections to the upstream are kept for 15 seconds.
            time.sleep(SETTLED_S)
            found[count][name] = {"each": (held - before) / count, "resident": resident,
                                  "after": machine.resident(pid)}
            say(f"  {count} streams, {name}: {found[count][name]['each'] / 1024:.1f} KiB each")
    return found


def system_calls(lab):
    """Calls into the kernel per request. strace slows them down, so nothing else is measured here."""
    if not shutil.which("strace"):
        return {}
    chat_request = lab.request("chat", chat(), tokens=ANSWER_TOKENS)
    found = {}
    for name, pid in lab.pids():
        with tempfile.NamedTemporaryFile("r") as table:
            command = ["strace", "-c", "-f", "-o", table.name]
            command += [part for each in machine.family(pid) for part in ("-p", str(each))]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
                time.sleep(0.5)
                answers = lab.run(name, chat_request, connections=32, seconds=2)["answers"]
                strace.send_signal(signal.SIGINT)
            lines = [line.split() for line in table.read().splitlines()]
        calls = {line[-1]: int(line[3]) / answers for line in lines
                 if len(line) >= 5 and line[3].isdigit() and line[-1] != "total"}
        found[name] = {call: count for call, count in calls.items() if count >= 0.05}
        say(f"  {name}: {sum(found[name].values()):.2f} calls")
    return found


def profiles(lab):
    """Where Weir's time goes, for requests without a pause and for streams."""
    request = lab.request("chat", chat(), tokens=ANSWER_TOKENS)
    stream = lab.request("stream", chat(stream=True), tokens=STREAM_TOKENS, interval_ms=STREAM_INTERVAL_MS)
    return {
        "request": profile.record(lab, lambda: lab.run("weir", request, connections=32, seconds=4)),
        "event": profile.record(lab, lambda: lab.run("weir", stream, connections=500, each=2)),
    }


def demos(lab, starts):
    """Milliseconds until `weir demo` accepts and until it has answered, and bytes resident then."""
    return [demo(lab.binary, lab.home / f"demo-{number}") for number in range(starts)]


def demo(binary, directory):
    port = machine.free_port()
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(binary), "demo", "--listen", f"127.0.0.1:{port}", "--data-dir", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        while not machine.is_open(port):
            if process.poll() is not None or time.monotonic() - begun > 60:
                fail("weir demo does not start")
            time.sleep(0.001)
        accepted = time.monotonic()
        key = next(line.split()[1] for line in process.stdout if line.startswith("  key "))
        headers = {"Authorization": f"Bearer {key}", "x-sim-interval-ms": "0",
                   "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        with contextlib.closing(urllib.request.urlopen(
            urllib.request.Request(url, chat().encode(), headers), timeout=10
        )) as answer:
            answer.read()
        answered = time.monotonic()
        return {"accepted": (accepted - begun) * 1e3, "answered": (answered - begun) * 1e3,
                "resident": machine.resident(process.pid)}
    finally:
        stop(process)
