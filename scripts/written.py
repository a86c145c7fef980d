#!/usr/bin/env python3
"""What the gateway writes to the disk for a row: scripts/written.py [--rate 5] [--seconds 60] [--weir PATH].

Starts the simulator and a gateway in a new directory, sends short requests at an even rate, one at a time or over
as many connections as it takes, and divides what the kernel counts as written by the gateway's process
(write_bytes in /proc/PID/io: pages that became dirty, journal and store together) by the rows. With --page-bytes
the store has pages of that size. Linux only; the directory must be on a disk, since a tmpfs counts nothing.
"""

import argparse
import json
import os
import re
import signal
import sqlite3
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

KEY = "sk-of-the-simulator"
BODY = json.dumps({"model": "gpt-5.4", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]})
# What one connection does in a second at least; above that, more are used.
PER_CONNECTION = 100


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def configure(place, ports):
    text = f"""
[server]
listen = "127.0.0.1:{ports[0]}"
workers = 2
[admin]
listen = "127.0.0.1:{ports[1]}"
[data]
dir = "{place}/data"
[[upstream]]
name = "simulator"
base_url = "http://127.0.0.1:{ports[2]}"
api_key = "env:WEIR_UPSTREAM_API_KEY"
models = ["gpt-5.4"]
[log]
filter = "error"
"""
    path = f"{place}/weir.toml"
    with open(path, "w") as file:
        file.write(text)
    return path


def metric(port, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


def ready(port):
    for _ in range(600):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the gateway does not get ready")


def written(pid):
    with open(f"/proc/{pid}/io") as file:
        return int(re.search(r"^write_bytes: (\d+)", file.read(), re.M).group(1))


def repage(store, page_bytes):
    """A store that is there keeps the size of its pages until it is written anew."""
    with sqlite3.connect(store) as connection:
        connection.executescript(
            f"PRAGMA journal_mode = DELETE; PRAGMA page_size = {page_bytes}; VACUUM; PRAGMA journal_mode = WAL;"
        )


def exchange(connection, request):
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(re.search(rb"content-length: (\d+)", head, re.I).group(1))
    while len(body) < length:
        body += connection.recv(65536)


def send(port, key, rate, until, sent, at):
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    due = time.monotonic()
    while due < until:
        time.sleep(max(0.0, due - time.monotonic()))
        exchange(connection, request)
        sent[at] += 1
        due += 1 / rate


def load(port, key, rate, seconds):
    count = -(-int(rate) // PER_CONNECTION) or 1
    sent = [0] * count
    until = time.monotonic() + seconds
    arguments = lambda at: (port, key, rate / count, until, sent, at)
    threads = [threading.Thread(target=send, args=arguments(at)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--rate", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--page-bytes", type=int)
    parser.add_argument("--dir", default="target/tmp", help="where the data goes: a directory on a disk")
    asked = parser.parse_args()
    weir = os.path.abspath(asked.weir)
    environment = dict(os.environ, WEIR_UPSTREAM_API_KEY=KEY, WEIR_SIMULATOR_API_KEY=KEY)
    with tempfile.TemporaryDirectory(dir=asked.dir) as place:
        place = os.path.abspath(place)
        ports = [free_port() for _ in range(3)]
        command = [weir, "--config", configure(place, ports)]
        made = subprocess.check_output(command + ["key", "create", "--tenant", "t", "--format", "json"], env=environment)
        if asked.page_bytes:
            repage(f"{place}/data/weir.sqlite", asked.page_bytes)
        simulator = subprocess.Popen([weir, "simulate", "--listen", f"127.0.0.1:{ports[2]}"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        gateway = subprocess.Popen(command + ["serve"], env=environment)
        try:
            ready(ports[1])
            time.sleep(1)
            before, begun = written(gateway.pid), time.monotonic()
            rows = load(ports[0], json.loads(made)["key"], asked.rate, asked.seconds)
            took = time.monotonic() - begun
            while metric(ports[1], "weir_drain_rows_total") < rows:
                time.sleep(0.05)
            total = written(gateway.pid) - before
        finally:
            for process in (gateway, simulator):
                process.send_signal(signal.SIGTERM)
                process.wait()
    print(f"{rows} rows at {rows / took:.1f} a second: {total / 1024:.0f} KiB written, {total / 1024 / rows:.2f} KiB a row")


if __name__ == "__main__":
    main()
