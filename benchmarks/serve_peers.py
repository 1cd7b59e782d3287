"""Our server beside those of `peer_servers`, side by side on one machine.

    python benchmarks/serve_peers.py --bundle FOLDER --texts FILE.csv

Ours serves the cascade under its certified policy, the others the same bundle's full tier. wrk asks
for one text a request over so many connections, each asking again once it is answered. All servers
run at once, and all but the one that is asked are stopped (SIGSTOP), so that they take turns within
a round; a figure is the median over rounds. CPU is the servers' alone, all their processes
together. Memory is what these hold of their own (PSS), after the last round. Figures `start_s` are
from the command to the first answer, one after the other.

A ratio is ours over the peer's: of requests a second more is better for us, of the others less.
`rps_ratio_at_p99` compares ours with the best that the peer does at any number of clients with a
p99 no worse than ours is at this one; None where it never does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import records
import yaml
from served import texts_of

HERE = Path(__file__).parent
OURS = "adaptive serve"
NAMES = {
    "litserve": "LitServe (torch, batches of up to 32)",
    "ray": "Ray Serve (torch, batches of up to 32)",
    "fastapi": "FastAPI and transformers' pipeline, a text a call",
    "tei": "text-embeddings-inference's contract in Python (ONNX Runtime, batches of up to 32)",
}
SCRIPT = """
local requests, at = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
  end
end
function request()
  at = at + 1
  return requests[at % #requests + 1]
end
function done(summary, latency)
  local e = summary.errors
  local form = '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}'
  io.write(string.format(form,
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout) .. "\\n")
end
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    process: psutil.Popen
    url: str
    bodies: Path  # a request's a line
    start_s: float

    def tree(self) -> list[psutil.Process]:
        """All its processes."""
        return [psutil.Process(self.process.pid), *self.process.children(recursive=True)]

    def send(self, number: signal.Signals) -> None:
        """A signal to all of them."""
        for each in self.tree():
            each.send_signal(number)

    def cpu(self) -> float:
        """Seconds that all of them have used."""
        times = [each.cpu_times() for each in self.tree()]
        return float(sum(each.user + each.system for each in times))

    def rest(self) -> None:
        """Wait until it has done with requests whose clients have gone, a minute at most."""
        for _ in range(300):
            before = self.cpu()
            time.sleep(0.2)
            if self.cpu() - before < 0.03:
                return

    def memory(self) -> float:
        """Megabytes that all of them hold of their own."""
        return float(sum(each.memory_full_info().pss for each in self.tree())) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV file with a column text")
    parser.add_argument("--data", default="clinc150", help="what the texts are, for the record")
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement, at least")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--record", type=Path, default=HERE / "records" / "serve.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    record = records.read(given.record)
    told = {NAMES[peer] for peer in given.peers}
    kept = [line for line in record.get("peers", []) if line["peer"] not in told]
    before = record.get("peers_measured", {}) if kept else {}
    record["peers"] = [*kept, *found["peers"]]
    record["peers_measured"] = before | {", ".join(given.peers): found["measured"]}
    records.write(given.record, record)
    print(json.dumps(found, indent=1))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The record's parts about peers."""
    servers: dict[str, Server] = {}
    before = os.getloadavg()[0]
    try:
        if "tei" in given.peers:
            peer = [sys.executable, str(HERE / "peer_servers.py"), "export"]
            subprocess.run(
                pinned(given.server_core, [*peer, *options(given, folder)]), check=True, env=env()
            )
        for name in (OURS, *given.peers):
            servers[name] = start(name, given, folder)
            servers[name].send(signal.SIGSTOP)
        runs: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(given.rounds):
            for clients in given.clients:
                for name, server in servers.items():
                    found = ask(name, server, clients, given, folder)
                    runs.setdefault((name, clients), []).append(found)
        memory = {name: held(server) for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.send(signal.SIGCONT)
            end(server)
    figures = {key: medians(each) for key, each in runs.items()}
    return {
        "peers": compare(figures, memory, given.peers, given.clients, given.data),
        "measured": {
            "ours": [
                {"clients": clients, **rounded(figures[OURS, clients])} for clients in given.clients
            ],
            "start_s": {name: round(each.start_s, 1) for name, each in servers.items()},
            "memory_mb": {name: round(each) for name, each in memory.items()},
            "rounds": given.rounds,
            "seconds": given.seconds,
            "cores": {"servers": given.server_core, "client": given.client_core},
            "load": [round(before, 2), round(os.getloadavg()[0], 2)],  # before and after
        },
    }


def start(name: str, given: argparse.Namespace, folder: Path) -> Server:
    """Start a server, and wait for its first answer."""
    port, bodies = free_port(), folder / f"{name}.jsonl"
    texts = texts_of(given.texts)
    more = {"parameters": {"top_k": 1}} if name == OURS else {}
    bodies.write_text("".join(json.dumps({"inputs": text, **more}) + "\n" for text in texts))
    if name == OURS:
        config = folder / "serve.yaml"
        limits = {"requests": 1024, "queued_ms": 1e6}  # none is refused, as none of the peers' is
        settings = {"port": port, "log": False, "audit": {"share": 0}, "limits": limits}
        config.write_text(yaml.safe_dump(settings))
        command = ["-m", "adaptive", "serve", str(given.bundle), "--config", str(config)]
        command += ["--threads", "1"]
    else:
        command = [str(HERE / "peer_servers.py"), name, *options(given, folder)]
        command += ["--port", str(port)]
    began = time.perf_counter()
    process = psutil.Popen(
        pinned(given.server_core, [sys.executable, *command]),
        env=env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}" + ("/" if name == OURS else "/predict")
    body = json.loads(bodies.read_text().partition("\n")[0])
    while not answers(url, body):
        if process.poll() is not None or time.perf_counter() - began > 180:
            end(Server(process, url, bodies, 0.0))
            raise RuntimeError(f"{name}: did not start")
        time.sleep(0.1)
    return Server(process, url, bodies, time.perf_counter() - began)


def answers(url: str, body: dict[str, Any]) -> bool:
    """Whether a server answers."""
    try:
        return httpx.post(url, json=body, timeout=60, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def ask(
    name: str, server: Server, clients: int, given: argparse.Namespace, folder: Path
) -> dict[str, float]:
    """What wrk sees of so many clients, and the CPU that the server takes for a request."""
    script = folder / "ask.lua"
    script.write_text(SCRIPT)
    # the plain server takes seconds to accept 256 connections beside its 40 threads
    seconds = max(given.seconds, clients // 16)
    wrk = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s"]
    command = pinned(
        given.client_core, [*wrk, "-s", str(script), server.url, "--", str(server.bodies)]
    )
    server.send(signal.SIGCONT)
    began = server.cpu()
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = server.cpu() - began
    server.rest()
    server.send(signal.SIGSTOP)
    found = json.loads(told.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise RuntimeError(
            f"{name}, {clients} clients: {found['failed']} of {found['requests']} failed"
        )
    return {
        "rps": found["requests"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "cpu_ms": 1000.0 * used / found["requests"],
    }


def compare(
    figures: dict[tuple[str, int], dict[str, float]],
    memory: dict[str, float],
    peers: list[str],
    counts: list[int],
    data: str,
) -> list[dict[str, Any]]:
    """A line for each peer and number of clients."""
    lines = []
    for name in peers:
        for clients in counts:
            own, other = figures[OURS, clients], figures[name, clients]
            quick = [
                each["rps"]
                for each in (figures[name, count] for count in counts)
                if each["p99_ms"] <= own["p99_ms"]
            ]
            lines.append(
                {
                    "peer": NAMES[name],
                    "data": data,
                    "clients": clients,
                    "rps_ratio": round(own["rps"] / other["rps"], 2),
                    "p99_ratio": round(own["p99_ms"] / other["p99_ms"], 3),
                    "cpu_ratio": round(own["cpu_ms"] / other["cpu_ms"], 3),
                    "memory_ratio": round(memory[OURS] / memory[name], 2),
                    "rps_ratio_at_p99": round(own["rps"] / max(quick), 2) if quick else None,
                    "peer_figures": rounded(other),
                }
            )
    return lines


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(each[name] for each in runs) for name in runs[0]}


def rounded(found: dict[str, float]) -> dict[str, float]:
    """To two decimals."""
    return {name: round(each, 2) for name, each in found.items()}


def held(server: Server) -> float:
    """Memory, of a server that runs meanwhile."""
    server.send(signal.SIGCONT)
    found = server.memory()
    server.send(signal.SIGSTOP)
    return found


def end(server: Server) -> None:
    """Stop a server and whatever it has left."""
    left = server.tree() if server.process.is_running() else []
    server.process.terminate()
    _, alive = psutil.wait_procs(left, timeout=10)
    for each in alive:
        each.kill()


def options(given: argparse.Namespace, folder: Path) -> list[str]:
    """What every peer is told."""
    return ["--bundle", str(given.bundle), "--folder", str(folder)]


def pinned(core: int, command: list[str]) -> list[str]:
    """A command on one core."""
    return ["taskset", "-c", str(core), *command]


def env() -> dict[str, str]:
    """One thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def free_port() -> int:
    """One that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
