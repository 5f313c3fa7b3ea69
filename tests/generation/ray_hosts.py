"""Ray on several hosts, which are namespaces of one machine: one is cut off in the middle, one joins late.

    python -m tests.generation.ray_hosts

A host has its own network, name, processes and temporary files; what they share is the disk with the code
and the store. It needs Linux, root, `ip` and `unshare`. It prints what was measured, as JSON.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from almost_data.cli.app import main as almost_data
from almost_data.generation import journal_file
from almost_data.store.store import Store
from tests.generation import worker_engines
from tests.waiting import until

QUERIES, BATCH = 60, 5
ADDRESS = "10.77.0."
LADDER = """
[responses]
responders = [
    { name = "fake-three", model = "fake/one", prompt = "hhh", shots = 3 },
    { name = "fake-two", model = "fake/one", prompt = "hhh", shots = 1 },
]
"""
BUILD = ("build", "responses", "--config", "ladder.toml", "--from", "queries@1.0.0")
HOST = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "bash")
"""A shell that runs what it reads; a host ends with it, or with the process that started it."""

SETTINGS = {
    "RAY_AUTH_MODE": "token",
    # A host without an answer is given up after 20 seconds, not after a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "4",
}
NETWORK = ("--net",)
ALL = (*NETWORK, "--mount", "--uts", "--pid")


@dataclass(frozen=True)
class Measured:
    """What happened; `ray` and `plain` are the digests of the same build on Ray and without it."""

    ray: str
    plain: str
    requests: int
    answered_by: dict[str, int]
    """Requests begun on each host."""
    repeated: int
    """Requests begun twice: those whose replies the lost host had not handed over."""
    journaled: int
    """Replies that came to the journal from an engine, each once."""
    computed_again: int
    """By a second build with the same journal."""
    seconds: float


class Host:
    """A host with the address `10.77.0.NUMBER` and the name `hostNUMBER`; the first has the bridge."""

    def __init__(self, number: int, bridge: "Host | None", folder: Path) -> None:
        self.number, self.folder = number, folder
        self.process = subprocess.Popen(HOST, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(
            f"hostname host{number}; ip link set lo up; mount -t tmpfs none {folder}/ray; echo up\n"
        )
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "up\n"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.shell = children.read_text().strip()
        device = "bridge" if bridge is None else "cable"
        if bridge is None:
            self.link("add", "bridge", "type", "bridge")
        else:
            bridge.link("add", f"to{number}", "type", "veth", "peer", "name", "cable", "netns", self.shell)
            bridge.link("set", f"to{number}", "master", "bridge", "up")
        self.enter("ip", "address", "add", f"{ADDRESS}{number}/24", "dev", device, only=NETWORK)
        self.link("set", device, "up")

    def inside(self, *command: str, only: Sequence[str] = ALL) -> list[str]:
        """A command line that runs on this host."""
        return ["nsenter", "--target", self.shell, *only, f"--wd={self.folder}", "--", *command]

    def enter(self, *command: str, only: Sequence[str] = ALL) -> None:
        subprocess.run(self.inside(*command, only=only), check=True, stdout=subprocess.DEVNULL)

    def link(self, *arguments: str) -> None:
        """`ip link`, with the process numbers of the machine."""
        self.enter("ip", "link", *arguments, only=NETWORK)

    def start_ray(self) -> None:
        where = ["--address", f"{ADDRESS}1:6379", "--num-cpus", "1"]
        if self.number == 1:
            where = ["--head", "--port", "6379", "--num-cpus", "0", "--include-dashboard", "false"]
        places = ["--node-ip-address", f"{ADDRESS}{self.number}", "--temp-dir", f"{self.folder}/ray"]
        memory = ["--object-store-memory", str(80 << 20), "--disable-usage-stats"]
        self.enter(sys.executable, "-m", "ray.scripts.scripts", "start", *where, *places, *memory)

    def end(self) -> None:
        """End everything that runs on it, at once."""
        self.process.kill()
        self.process.wait()


def missing() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return "unshare, nsenter and ip are not installed"
    probe = [*HOST, "-c", "ip link add bridge type bridge"]
    run = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no namespaces: {run.stderr.strip()}" if run.returncode else None


def measure(folder: Path) -> Measured:
    """Build on Ray while one of two workers is cut off and a third joins, and once more without Ray."""
    start = time.monotonic()
    (folder / "ray").mkdir()
    (folder / "ladder.toml").write_text(LADDER)
    (folder / "questions.txt").write_text("".join(f"How do I count to {n}?\n" for n in range(QUERIES)))
    os.environ |= SETTINGS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.chdir(folder)
    almost_data(["--root", "store", "import", "queries", "questions.txt", "--version", "1.0.0"])
    shutil.copytree("store", "plain")
    almost_data(["--root", "plain", *BUILD, "--version", "1.0.0", "--engine", "fake"])
    with ExitStack() as stack:
        build_on_hosts(folder, stack)
    almost_data(["--root", "store", *BUILD, "--version", "2.0.0", "--engine", "fake"])
    computed = {build.name: build.computed for build in journal_file.status(Store("store").journal)}
    begun = {path.name.removeprefix("asked-"): path.read_text().split() for path in folder.glob("asked-*")}
    times = Counter(id for ids in begun.values() for id in ids)
    return Measured(
        ray=Store("store").manifest("responses@1.0.0").digest,
        plain=Store("plain").manifest("responses@1.0.0").digest,
        requests=len(times),
        answered_by={host: len(ids) for host, ids in sorted(begun.items())},
        repeated=sum(count > 1 for count in times.values()),
        journaled=computed["responses@1.0.0"],
        computed_again=computed["responses@2.0.0"],
        seconds=round(time.monotonic() - start, 1),
    )


def build_on_hosts(folder: Path, stack: ExitStack) -> None:
    """A head and two workers; the second host is cut off in the middle, and the fourth joins then."""

    def host(number: int, bridge: Host | None) -> Host:
        new_host = Host(number, bridge, folder)
        stack.callback(new_host.end)
        new_host.start_ray()
        return new_host

    head = host(1, None)
    lost, _ = host(2, head), host(3, head)
    engine = f"engine.engine={worker_engines.__file__}:Watched"
    command = [sys.executable, "-m", "almost_data", "--root", "store", *BUILD, "--version", "1.0.0"]
    command += ["--engine", "ray", "--ray-address", f"{ADDRESS}1:6379", "--set", engine]
    command += ["--set", "engine.workers=2", "--set", f"engine.batch={BATCH}"]
    driver = subprocess.Popen(head.inside(*command))
    stack.callback(driver.kill)
    until(lambda: begun(2) > 2 * BATCH and begun(3), "both hosts answer")
    Path("hold-host3").touch()  # or it does the rest before the next host is up
    head.link("set", "to2", "down")
    lost.end()
    host(4, head)
    until(lambda: begun(4) or driver.poll() is not None, "the host that joined answers")
    Path("hold-host3").unlink()
    assert driver.wait() == 0


def begun(number: int) -> int:
    path = Path(f"asked-host{number}")
    return len(path.read_text().split()) if path.exists() else 0


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="hosts") as name:
        print(json.dumps(vars(measure(Path(name)))))
