"""Commands that build, and files: shared by the tests that install the library and embed it."""

import os
import subprocess

LIMIT = 600  # seconds for one command, so that nothing hangs
JOBS = f"-j{os.cpu_count()}"  # others are running, too


def run(*command, environment=None, folder=None):
    """Runs it and returns what it printed. A failure shows all of that."""
    result = subprocess.run(command, env={**os.environ, **(environment or {})}, cwd=folder, text=True, timeout=LIMIT,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\nexit status {result.returncode}\n{result.stdout}")
    return result.stdout


def fails(*command, environment=None):
    """What a command printed that should not succeed."""
    result = subprocess.run(command, env={**os.environ, **(environment or {})}, text=True, timeout=LIMIT,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode == 0:
        raise AssertionError(f"succeeded: {' '.join(command)}\n{result.stdout}")
    return result.stdout


def files_under(folder):
    return {os.path.relpath(os.path.join(path, name), folder) for path, _, names in os.walk(folder) for name in names}


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
