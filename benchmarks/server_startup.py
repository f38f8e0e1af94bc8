"""How long until the server has greeted, beside the floor: the same Python that does nothing.

python benchmarks/server_startup.py [--quick]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

BOUND_SECONDS = 1.0


def greet() -> float:
    """Start a server and return the seconds until its first message."""
    started = time.perf_counter()
    command = [sys.executable, "-E", "-s", "-m", "rsfm", "serve"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    message = json.loads(process.stdout.readline())
    seconds = time.perf_counter() - started
    process.communicate()
    assert message["method"] == "hello"
    return seconds


def nothing() -> float:
    """Start Python and return the seconds until it has ended."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-E", "-s", "-c", "pass"], check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 starts in place of 15")
    repeats = 3 if parser.parse_args().quick else 15
    floors, servers = zip(*((nothing(), greet()) for _ in range(repeats)), strict=True)
    floor, server = statistics.median(floors), statistics.median(servers)
    print(
        f"floor (Python that does nothing) {floor:.3f} s, server {server:.3f} s, {server / floor:.1f} times the floor"
    )
    print(f"CLAIM server_startup_s {server:.3f} {BOUND_SECONDS} {'ok' if server <= BOUND_SECONDS else 'short'}")


if __name__ == "__main__":
    main()
