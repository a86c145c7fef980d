"""Where Weir's CPU time goes under a load, by thread and by the call into the kernel: samples of perf's."""

import collections
import re
import shutil
import subprocess
import time

# Less is one line.
LEAST = 0.005


def record(lab, run):
    """Shares of the samples by (thread, what it did), while `run()` loads Weir; empty without perf, or where
    the kernel does not allow it."""
    if not shutil.which("perf"):
        return {}
    data = lab.home / "perf.data"
    command = ["perf", "record", "--quiet", "-F", "2000", "-g", "-p", str(lab.processes["weir"].pid), "-o", data]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as perf:
        time.sleep(0.5)
        run()
        perf.terminate()
    if not data.exists():
        return {}
    script = ["perf", "script", "-i", data, "-F", "comm,ip,sym"]
    lines = subprocess.run(script, capture_output=True, text=True).stdout.split("\n\n")
    return shares(sample.splitlines() for sample in lines if sample.strip())


def shares(samples):
    """Each sample is the thread's name and then its frames, the innermost first: address and symbol."""
    found = collections.Counter()
    for thread, *frames in samples:
        symbols = [(frame.split()[0], frame.split()[1].split("+")[0]) for frame in frames if len(frame.split()) > 1]
        found[re.sub(r"-\d+$", "", thread.split()[0]), what(symbols)] += 1
    total = sum(found.values())
    kept = {key: count / total for key, count in found.most_common() if count / total >= LEAST}
    return kept if total else {}


def what(symbols):
    call = next((name for _, name in symbols if re.match(r"__(x64|arm64)_sys_", name)), None)
    if call:
        return f"kernel, `{call.split('_sys_')[1]}`"
    is_kernel = any(address.startswith("ffff") for address, _ in symbols)
    return "kernel, interrupts and what follows them" if is_kernel else "the program"
