"""The figures as docs/performance.md and its plot show them."""

import os
from statistics import median as middle

from . import machine, others, plot
from .lab import chat
from .scenarios import ANSWER_TOKENS, SETTLED_S, STREAM_INTERVAL_MS, STREAM_TOKENS, median, ratios

NAMES = {"nginx": "nginx", "haproxy": "HAProxy", "weir": "Weir", "envoy": "Envoy", "litellm": "LiteLLM",
         "direct": "no proxy"}
KIB, MB = 1024, 1e6


def spread(values, digits=1):
    """Median, and in brackets the smallest and the largest."""
    values = list(values)
    return f"{middle(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def cpu_table(results, unit):
    """CPU of each, the parts of Weir's, and the ratio."""
    rows = [[NAMES[name], spread(one["cpu_all"] for one in results[name])]
            for name in results if "cpu_all" in results[name][0]]
    for part in ("workers", "drain", "other"):
        rows.append([f"… {part}", spread(one.get(f"cpu_{part}", 0) for one in results["weir"])])
    rows.append(["**Weir / nginx**", f"**{spread(ratios(results), 2)}**"])
    if "cpu_workers" in results["weir"][0]:
        rows.append(["… its workers only", spread(workers_ratio(results), 2)])
    return table([f"CPU per {unit}, µs", "median (smallest to largest round)"], rows)


def workers_ratio(results):
    pairs = zip(results["weir"], results["nginx"])
    return [weir["cpu_workers"] / nginx["cpu_all"] for weir, nginx in pairs]


def percentiles(results, kind, keys=("p50", "p90", "p99")):
    rows = [[NAMES[name], *(spread(one[f"{kind}_{key}"] for one in results[name]) for key in keys)]
            for name in results]
    return table(["µs", *(f"{key[1:]} %" for key in keys)], rows)


def added(results, key):
    """Beyond what it takes without a proxy, round by round."""
    return {name: [one[key] - bare[key] for one, bare in zip(results[name], results["direct"])]
            for name in results if name != "direct"}


def targets(found):
    """What is promised, what was measured, and whether it is kept."""
    closed, paced, streams = found["requests"][32], found["paced"], found["streams"]
    picture = found["bodies"]["10 MiB picture"]
    one = added(found["requests"][1], "whole_p50")
    late = middle(ratios(paced, "whole_p99"))
    held = {count: one["weir"] for count, one in found["memory"].items()}
    few, many = min(held), max(held)
    start = middle(one["answered"] for one in found["demos"])
    least = min(min(shares) for shares in found["balance"].values())
    growth = held[few]["after"] / found["idle_resident"]
    grown = f"{found['idle_resident'] / MB:.1f} MB, {held[few]['after'] / MB:.1f} MB after {few} streams"
    limits = [
        ("CPU per request, 32 connections without a pause", "at most 1.8 of nginx's", middle(ratios(closed)), 1.8, ""),
        ("… in the end", "at most 1.5 of nginx's", middle(ratios(closed)), 1.5, ""),
        ("… its workers, in the end", "at most 1.2 of nginx's", middle(workers_ratio(closed)), 1.2, ""),
        ("CPU per request, at the same rate", "at most 1.8 of nginx's", middle(ratios(paced)), 1.8, ""),
        ("CPU per event of a stream", "at most 1.15 of nginx's", middle(ratios(streams)), 1.15, ""),
        ("CPU per 10 MiB picture", "at most 1.5 of nginx's", middle(ratios(picture)), 1.5, ""),
        ("memory for a 10 MiB picture", "at most 1.2 of the body",
         found["body_memory"]["10 MiB picture", "weir"], 1.2, ""),
        ("added latency, one connection, median", "no more than nginx's",
         middle(one["weir"]) / middle(one["nginx"]), 1.0,
         f" ({middle(one['weir']):.0f} µs; nginx {middle(one['nginx']):.0f} µs)"),
        ("latency at the same rate, 99 %", "at most 1.2 of nginx's", late, 1.2, ""),
        ("memory of an open stream", "at most 40 KiB", held[few]["each"] / KIB, 40, " KiB"),
        (f"{many} streams, nearly idle", "under 400 MB", held[many]["resident"] / MB, 400, " MB"),
        ("idle memory of `weir serve`", "under 10 MB", found["idle_resident"] / MB, 10, " MB"),
        ("memory after a burst", "at most 1.2 of idle", growth, 1.2, f" ({grown})"),
        ("a worker beside a busier one", "does at least 0.9 of its work", -least, -0.9, ""),
        ("`weir demo` has answered", "within 50 ms", start, 50, " ms"),
        ("size of the program", "under 15 MB", found["program_bytes"] / MB, 15, " MB"),
    ]
    rows = [[what, promise, f"{abs(value):.2f}{note}", "met" if value <= most else "**missed**"]
            for what, promise, value, most, note in limits]
    return table(["", "Target", "Measured", ""], rows)


def chart(found):
    def row(label, results):
        for name in ("weir", "haproxy"):
            if name in results:
                values = ratios(results, of=name)
                whose = f"{label}, HAProxy" if name == "haproxy" else label
                yield whose, name, middle(values), min(values), max(values)

    rows = []
    for connections, results in found["requests"].items():
        rows += row(f"request, {connections} connection{'s'[:connections > 1]}", results)
    rows += row("request, same rate", found["paced"])
    for what, results in found["bodies"].items():
        rows += row(what, results)
    rows += row("event of a stream", found["streams"])
    return plot.bars("CPU time, of nginx's (line: the rounds' range)", rows)


def memory_rows(found):
    for count, results in found["memory"].items():
        for name, one in results.items():
            yield [f"{count}", NAMES[name], f"{one['each'] / KIB:.1f} KiB",
                   f"{one['resident'] / MB:.0f} MB", f"{one['after'] / MB:.0f} MB"]


def body_rows(found):
    for what, results in found["bodies"].items():
        for name, rounds in results.items():
            yield [what, NAMES[name], spread(each["cpu_all"] for each in rounds),
                   f"{found['body_memory'][what, name]:.2f}"]


def call_rows(found):
    for name, calls in found["calls"].items():
        shown = ", ".join(f"`{call}` {count:.2f}" for call, count in sorted(calls.items()))
        yield [NAMES[name], f"{sum(calls.values()):.2f}", shown]


def profile_table(found):
    request, event = found["profiles"]["request"], found["profiles"]["event"]
    if not request:
        return "perf is not installed, or may not look."
    cost = [median(found["requests"][32], "weir", "cpu_all"), median(found["streams"], "weir", "cpu_all")]

    def cell(share, whole):
        return f"{share:.1%}, {share * whole:.1f} µs"

    rows = [[key[0].removeprefix("weir-"), key[1], cell(request[key], cost[0]), cell(event.get(key, 0), cost[1])]
            for key in request]
    return table(["Thread", "", "of a request", "of an event"], rows)


def others_rows(results):
    for name in results["request"]:
        row = [NAMES[name] + (f" {others.version(name)}" if name in ("envoy", "litellm") else "")]
        for rounds in results.values():
            cpu = [one["cpu_all"] for one in rounds[name]]
            row += [spread(cpu), f"{middle(one / nginx['cpu_all'] for one, nginx in zip(cpu, rounds['nginx'])):.1f}"]
        yield row


def beside_others(found):
    if "others" not in found:
        return "Neither Envoy nor LiteLLM is installed; `make others` does that."
    head = ["", "CPU per request, µs", "of nginx's", "CPU per event, µs", "of nginx's"]
    return f"""Envoy as a plain reverse proxy with two threads; LiteLLM with two worker processes and one key, without
limits or a database.
A load small enough for all: 8 connections without a pause, and 20 streams.

{table(head, others_rows(found["others"]))}"""


def write(found, options):
    closed = found["requests"]
    other = [[f"{connections}", *(spread(one["cpu_all"] for one in results[name]) for name in ("nginx", "weir")),
              f"**{spread(ratios(results), 2)}**"]
             for connections, results in closed.items() if connections != 32]
    switches = ", ".join(f"{NAMES[name]} {median(found['paced'], name, 'switches'):.2f}"
                         for name in found["paced"] if name != "direct")
    busy = ", ".join(f"{count}: {min(shares):.2f}" for count, shares in found["balance"].items())
    busy_share = ", ".join(f"{NAMES[name]} {median(found['paced'], name, 'busy'):.0%}"
                           for name in found["paced"] if name != "direct")
    haproxy = f", {machine.version('haproxy', '-v').split(' - ')[0]}" if "haproxy" in closed[32] else ""
    return f"""# Performance

Written by `benches/compare`, which `make bench` runs; run it to get your machine's figures. Load
generator, simulator and the proxies share the machine, so throughput says nothing here, and CPU time is
what is compared: the kernel's account of all threads, in turns, the same load for all. Every answer was
checked to be whole, and against the ledger.

- Machine: {machine.describe()}; load average at the end {os.getloadavg()[0]:.1f}
- Versions: Weir {machine.version(str(options.binary), "--version").split()[-1]} (`make dist`), \
{machine.version("rustc", "--version")}, {machine.version("nginx", "-v")}{haproxy}
- nginx: `proxy_pass`, keep-alive on both sides, no logs, 2 worker processes; for streams and large bodies
  without buffering. HAProxy: 2 threads, `http-reuse always`, `http-no-delay`.
- Weir: 2 workers; key, every limit and quota of key and tenant, ledger, metering and metrics on; the
  drain of the ledger into SQLite is waited for and counted.

![CPU time, of nginx's](performance.svg)

{targets(found)}

## Requests

A chat of {len(chat())} bytes, an answer of {ANSWER_TOKENS} tokens.

**The same load**: {found["rate"]} requests a second over 32 connections. Simulator, load generator and proxy together keep the machine busy for
{busy_share} of its time.

{cpu_table(found["paced"], "request")}

Context switches per request: {switches}.

From when a request was due to the end of its answer; a request that waits for the answer before counts its
waiting:

{percentiles(found["paced"], "whole")}

**Without a pause**: each connection asks again as soon as it has its answer; so the quicker one gets more to do,
and finds more of it waiting at once. 32 connections, {options.rounds} rounds of 1 s for each:

{cpu_table(closed[32], "request")}

{table(["Connections", "nginx", "Weir", "Weir / nginx"], other)}

One connection, from a request to the end of its answer:

{percentiles(closed[1], "whole")}

The work of the less busy of Weir's two workers, of the busier one's, by connections: {busy}.

System calls per request, counted in a run of their own:

{table(["", "Calls", "of which"], call_rows(found)) if found["calls"] else "strace is not installed."}

## Larger requests

CPU per request, and the memory that one of them takes at most.

{table(["", "", "CPU, µs", "Memory, of the body"], body_rows(found))}

## Streams

{options.streams} open streams of {STREAM_TOKENS} tokens, one every {STREAM_INTERVAL_MS} ms. Weir asks for the usage and takes it out again.

{cpu_table(found["streams"], "event")}

How old an event is when it arrives, by the upstream's clock:

{percentiles(found["streams"], "event")}

From a request to the first byte of its answer:

{percentiles(found["streams"], "first")}

## Where Weir's time goes

Samples of perf's, of requests without a pause on 32 connections and of the streams; and what the share is of the medians above.

{profile_table(found)}

## Beside others

{beside_others(found)}

## Memory and start

What an open, nearly idle stream takes (proportional set size, by the difference to idle), and what is
resident with all of them and {SETTLED_S} seconds after their end.

{table(["Streams", "", "each", "all", "afterwards"], memory_rows(found))}

{table(["", ""], [
    ["`weir serve`, idle, resident", f"{found['idle_resident'] / MB:.1f} MB"],
    ["`weir demo`, after its first answer", spread((one["resident"] / MB for one in found["demos"])) + " MB"],
    ["`weir demo` accepts a connection after", spread((one["accepted"] for one in found["demos"]), 0) + " ms"],
    ["`weir demo` has answered a chat after", spread((one["answered"] for one in found["demos"]), 0) + " ms"],
    ["The program", f"{found['program_bytes'] / MB:.2f} MB"],
])}
"""
