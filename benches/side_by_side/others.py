"""Envoy and LiteLLM, where they are installed (`make others`): what else people put in this place. They take
part in a small comparison of their own, since the second needs a hundred times as long for a request."""

import contextlib
import json
import os
import re
import shutil
import urllib.request

from . import machine
from .lab import MODEL, ROOT

BIN = ROOT / ".others" / "bin"
# The names of environment variables of LiteLLM's: without them it asks the network for prices and reports.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "DISABLE_ADMIN_UI": "True"}


def find(command):
    return shutil.which(command, path=f"{BIN}:{os.environ['PATH']}")


def start(lab):
    """Those that there are: their names."""
    if envoy := find("envoy"):
        start_envoy(lab, envoy)
    if litellm := find("litellm"):
        start_litellm(lab, litellm)
    return [name for name in ("envoy", "litellm") if name in lab.processes]


def start_envoy(lab, program):
    """A plain reverse proxy, with two threads and no logs."""
    port = machine.free_port()

    def at(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "simulator", "timeout": "600s"}}
    manager = {
        "@type": http,
        "stat_prefix": "in",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"lb_endpoints": [{"endpoint": {"address": at(lab.simulator)}}]}
    config = {"static_resources": {
        "listeners": [{"name": "in", "address": at(port), "filter_chains": [{"filters": filters}]}],
        "clusters": [{"name": "simulator", "type": "STATIC", "connect_timeout": "10s",
                      "load_assignment": {"cluster_name": "simulator", "endpoints": [endpoint]}}],
    }}
    path = lab.home / "envoy.json"
    path.write_text(json.dumps(config))
    command = [program, "--config-path", path, "--concurrency", 2, "--log-level", "error",
               "--use-dynamic-base-id"]
    lab.start("envoy", command, port)


def start_litellm(lab, program):
    """Its proxy with two worker processes, one key, one model and no database; so it limits and records nothing."""
    port, path = machine.free_port(), lab.home / "litellm.json"
    to = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{lab.simulator}/v1", "api_key": "none"}
    path.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": to}]}))
    command = [program, "--config", path, "--host", "127.0.0.1", "--port", port, "--num_workers", 2]
    lab.start("litellm", command, port, {**OFFLINE, "LITELLM_MASTER_KEY": lab.key})

    def is_alive():
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=10)
            return True
        return False

    lab.wait(is_alive, "litellm to be ready", pause=0.5)


def version(name):
    return re.search(r"\d+\.\d+\.\d+", machine.version(find(name), "--version"))[0]
