"""Ray on several hosts: a build is the same whatever hosts it loses or gains, and asks for no reply twice."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.generation import ray_hosts

pytestmark = [pytest.mark.engine, pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")]


def test_a_host_is_lost_and_another_joins() -> None:
    if reason := ray_hosts.missing():
        pytest.skip(reason)
    command = [sys.executable, "-m", ray_hosts.__name__]
    run = subprocess.run(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True
    )
    measured = json.loads(run.stdout.splitlines()[-1])
    assert measured["ray"] == measured["plain"]
    assert measured["requests"] == measured["journaled"] == 2 * ray_hosts.QUERIES
    assert measured["computed_again"] == 0
    assert measured["answered_by"].keys() == {"host2", "host3", "host4"}
    assert measured["repeated"] <= ray_hosts.BATCH
