"""Two replicas equal one device: `two_replicas.py`, in a process that has two devices."""

import subprocess
import sys
from pathlib import Path


def test_in_a_process_with_two_devices():
    cases = Path(__file__).with_name("two_replicas.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
