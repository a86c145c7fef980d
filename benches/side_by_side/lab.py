"""The programs that are compared, running side by side in front of one simulator, and the load on them.

Each round gives one of them the same load as the others, in turns, so that whatever else the machine does
meets all of them.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from . import machine

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "gpt-5.4"
# High enough to be checked on every request and never to refuse one.
LIMITS = {
    "--rpm": 1_000_000_000,
    "--tpm": 10**12,
    "--concurrency": 100_000,
    "--daily-tokens": 10**15,
    "--monthly-tokens": 10**15,
    "--daily-requests": 10**12,
    "--monthly-requests": 10**12,
}
OPEN_FILES = 65_536


class Lab:
    """Simulator, nginx, HAProxy if there is one, and Weir, running; and what can be done with them."""

    def __init__(self, weir, load, home, stack):
        self.binary, self.load, self.home, self.stack = weir, load, home, stack
        allow_open_files()
        self.simulator = machine.free_port()
        self.admin = machine.free_port()
        command = [weir, "simulate", "--listen", f"127.0.0.1:{self.simulator}"]
        self.processes, self.ports = {}, {"direct": self.simulator}
        self.start("simulator", command, self.simulator)
        self.start_nginx()
        if shutil.which("haproxy"):
            self.start_haproxy()
        self.start_weir()
        self.wait(self.is_ready, "weir to be ready")
        # What is freed after the start has a moment to be given back.
        time.sleep(1)
        self.idle = {name: machine.proportional(pid) for name, pid in self.pids()}
        self.idle_resident = machine.resident(self.processes["weir"].pid)
        self.answered = {False: 0, True: 0}

    @property
    def proxies(self):
        return [name for name in ("nginx", "haproxy", "weir") if name in self.processes]

    def pids(self):
        return [(name, self.processes[name].pid) for name in self.proxies]

    def start(self, name, command, port, env=None):
        log = self.home / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
            )
        self.stack.callback(stop, process)
        self.processes[name], self.ports[name] = process, port
        self.wait(lambda: machine.is_open(port) or process.poll() is not None, f"{name} to listen")
        if process.poll() is not None:
            fail(f"{name} does not start:\n" + log.read_text())

    def start_nginx(self):
        """A plain reverse proxy: keep-alive on both sides and no logs. By itself it holds an answer back
        until it has a buffer full, and writes a large body to a file first; on a second port it doesn't."""
        prefix, port = self.home / "nginx", machine.free_port()
        self.unbuffered = {"nginx": machine.free_port()}
        location = """location / {
                        proxy_pass http://simulator; proxy_http_version 1.1;
                        proxy_set_header Connection "";
                    }"""
        prefix.mkdir()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temp = " ".join(f"{kind}_temp_path {prefix}/{kind};" for kind in kinds)
        # Started by root, nginx would change to a user who may not read its directory.
        user = "user root;" if os.geteuid() == 0 else ""
        (prefix / "nginx.conf").write_text(f"""
            {user} daemon off; worker_processes 2; pid {prefix}/nginx.pid; error_log stderr;
            worker_rlimit_nofile {OPEN_FILES};
            events {{ worker_connections 20000; }}
            http {{
                access_log off; keepalive_requests 1000000000; client_max_body_size 0; {temp}
                upstream simulator {{
                    server 127.0.0.1:{self.simulator}; keepalive 256; keepalive_requests 1000000000;
                }}
                server {{
                    listen 127.0.0.1:{port} backlog=4096;
                    {location}
                }}
                server {{
                    listen 127.0.0.1:{self.unbuffered["nginx"]} backlog=4096;
                    proxy_buffering off; proxy_request_buffering off;
                    {location}
                }}
            }}
        """)
        self.start("nginx", ["nginx", "-p", prefix, "-c", prefix / "nginx.conf"], port)

    def start_haproxy(self):
        config, port = self.home / "haproxy.cfg", machine.free_port()
        config.write_text(f"""
global
    nbthread 2
    maxconn {(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) // 2}
defaults
    mode http
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    http-reuse always
    option http-no-delay
frontend in
    bind 127.0.0.1:{port} backlog 4096
    default_backend simulator
backend simulator
    server one 127.0.0.1:{self.simulator}
""")
        self.start("haproxy", ["haproxy", "-db", "-f", config], port)

    def start_weir(self):
        config, port = self.home / "weir.toml", machine.free_port()
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{port}"\nworkers = 2\n'
            # The whole load comes from one address.
            'max_connections_per_address = 10000\n'
            f'[admin]\nlisten = "127.0.0.1:{self.admin}"\n'
            f'[data]\ndir = "{self.home / "data"}"\n'
            f'[[upstream]]\nname = "simulator"\nbase_url = "http://127.0.0.1:{self.simulator}"\n'
            'request_headers = ["x-sim-*"]\n'
            f'api_key = "env:BENCH_UPSTREAM_KEY"\nmodels = ["{MODEL}"]\n'
        )
        self.key = make_key(self.binary, config)
        command = [self.binary, "--config", config, "serve"]
        self.start("weir", command, port, {"BENCH_UPSTREAM_KEY": "sk-bench"})

    def is_ready(self):
        with contextlib.suppress(OSError):
            self.get("/readyz")
            return True
        return False

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name):
        """A metric of Weir's, summed over its labels."""
        lines = self.get("/metrics").splitlines()
        found = [line for line in lines if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def wait(self, condition, what, pause=0.01):
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline:
                fail(f"waited a minute for {what}")
            time.sleep(pause)

    def is_drained(self):
        """Every request has ended, and its row is in the store."""
        ended = self.metric("weir_request_ends_total")
        return (
            self.metric("weir_requests_in_flight") == 0
            and self.metric("weir_drain_rows_total") == ended
            and self.metric("weir_drain_lag_bytes") == 0
        )

    def request(self, name, body, /, **controls):
        """A file with a whole request; `controls` are the simulator's."""
        path = self.home / f"{name}.http"
        headers = {
            "Host": "127.0.0.1",
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "User-Agent": "OpenAI/Python 2.1.0",
            "Accept": "application/json",
            **{f"x-sim-{key.replace('_', '-')}": value for key, value in controls.items()},
            "Content-Length": len(body),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        path.write_text(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n{body}")
        return path

    def run(self, name, request, **options):
        """Puts a load on one of them: what the load generator saw of it."""
        with self.begin(name, request, **options) as process:
            return self.ended(process, name, "stream" in request.name)

    def begin(self, name, request, **options):
        ports = self.ports if request.stem == "chat" else {**self.ports, **self.unbuffered}
        more = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
        command = [self.load, f"127.0.0.1:{ports[name]}", request, *more]
        return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)

    def ended(self, process, name, is_stream):
        output = process.stdout.read()
        if process.wait() or not output:
            fail(f"the load on {name} met an error")
        seen = json.loads(output.splitlines()[-1])
        if not seen["answers"]:
            fail(f"{name} answered nothing")
        if name == "weir":
            self.answered[is_stream] += seen["answers"]
        return seen

    def measure(self, name, request, **options):
        """The same, with the CPU seconds that it took, by part, and the context switches."""
        if name not in self.processes:
            return self.run(name, request, **options)
        pid = self.processes[name].pid
        before, switched = machine.cpu(pid), machine.switches(pid)
        worked, passed = machine.busy()
        seen = self.run(name, request, **options)
        seen["busy"] = [now - then for now, then in zip(machine.busy(), (worked, passed))]
        if name == "weir":
            # Rarely: what it costs to answer is counted, too.
            self.wait(self.is_drained, "the drain", pause=0.1)
        after = machine.cpu(pid)
        seen["cpu"] = {part: after[part] - before.get(part, 0) for part in after}
        seen["switches"] = machine.switches(pid) - switched
        return seen

    def check_ledger(self):
        """Every answer that arrived is a complete row with usage as it was reported."""
        self.wait(self.is_drained, "the drain", pause=0.1)
        database = f"file:{self.home / 'data' / 'weir.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True)) as store:
            for streamed, answered in self.answered.items():
                rows, right = store.execute(
                    """SELECT count(*), sum("end" = 'complete' AND status = 200 AND output_tokens > 0
                        AND usage_source = 'reported') FROM requests WHERE streamed = ?""",
                    (streamed,),
                ).fetchone()
                what = "streams" if streamed else "requests"
                say(f"  ledger: {answered} {what} answered, {rows} rows, {right or 0} right")
                if not answered == rows == (right or 0):
                    fail("the ledger does not say what the clients saw")
        if self.metric("weir_refusals_total") or self.metric("weir_journal_append_errors_total"):
            fail("weir refused requests:\n" + self.get("/metrics"))


def make_key(binary, config):
    """A key with every limit, of a tenant with every limit."""
    limits = [text for name, value in LIMITS.items() for text in (name, str(value))]
    weir = [str(binary), "--config", str(config)]
    output(*weir, "tenant", "create", "bench", *limits)
    created = output(*weir, "key", "create", "--tenant", "bench", *limits, "--format", "json")
    return json.loads(created)["key"]


def output(*command):
    """What a command prints; it must succeed."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        fail(f"{command[0]} {command[3]} failed: {result.stderr}")
    return result.stdout


def chat(**more):
    """A chat of about 300 bytes."""
    messages = [
        {"role": "system", "content": "You are a careful assistant who answers in one short paragraph."},
        {"role": "user", "content": "What is a weir, how does it differ from a dam, and why is water "
                                    "measured at one, not at the other?"},
    ]
    return json.dumps({"model": MODEL, "messages": messages, "temperature": 0.7, **more})


def long_chat(size):
    """A chat with a question of so many bytes: words, as they are typed."""
    words = "What is a weir, and why is water measured at one? \\"
    text = (words * (size // len(words) + 1))[:size]
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]})


def picture_chat(size):
    """A question about a picture of so many bytes in base64. No picture: nobody looks at it."""
    url = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAA" * (size // 24)
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]})


def allow_open_files():
    """As many as there may be: thousands of streams are open four times."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, OPEN_FILES) if most > 0 else OPEN_FILES, most))


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def say(text):
    print(text, file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"compare: {text}")
