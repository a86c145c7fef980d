"""What the kernel knows of a process with its children: CPU time, memory, context switches."""

import contextlib
import os
import platform
import socket
import subprocess
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid):
    """A process and all below it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    direct = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [pid, *(below for child in direct for below in family(child))]


def threads(pid):
    return [task for each in family(pid) for task in Path(f"/proc/{each}/task").iterdir()]


def cpu(pid):
    """CPU seconds, user and system: `all`, and for Weir by what a thread does and by thread.

    No process here ends threads while it is measured, so the threads are the whole.
    """
    parts = {"all": 0}
    for task in threads(pid):
        name = (task / "comm").read_text().strip()
        part = "workers" if "-worker" in name else "drain" if "-drain" in name else "other"
        for key in {"all", part, name}:
            parts[key] = parts.get(key, 0) + cpu_seconds(task)
    return parts


def cpu_seconds(task):
    """To the nanosecond, or to the tick on kernels without that (Documentation/scheduler/sched-stats;
    proc(5), fields 14 and 15 of stat)."""
    with contextlib.suppress(OSError):
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    user, system = (task / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / TICKS


def busy():
    """Clock ticks in which the machine's cores worked, and all of them (proc(5), `cpu` of stat)."""
    ticks = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def switches(pid):
    """Context switches, wanted and not."""
    return sum(
        field(task / "status", key)
        for task in threads(pid)
        for key in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    )


def field(path, key):
    """The number after a key in one of the kernel's tables."""
    line = next(line for line in path.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1])


def resident(pid):
    """Bytes; what several processes share counts in each."""
    return sum(field(Path(f"/proc/{each}/status"), "VmRSS") for each in family(pid)) * 1024


def proportional(pid):
    """Bytes; what several processes share is divided among them."""
    return sum(field(Path(f"/proc/{each}/smaps_rollup"), "Pss") for each in family(pid)) * 1024


def peak(pid):
    """Bytes that were resident at most since [`forget_peak`]."""
    return sum(field(Path(f"/proc/{each}/status"), "VmHWM") for each in family(pid)) * 1024


def forget_peak(pid):
    for each in family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def describe():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next(names, platform.machine())
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def version(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    text = (result.stdout or result.stderr).strip()
    return text.splitlines()[0].replace("nginx version: ", "") if text else "unknown"
