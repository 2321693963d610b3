"""Every benchmark that needs no server, one after another, with its defaults; about half an hour on two cores.

python -m benchmarks.all [--data FILE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

#: module -> whether it takes the scene
BENCHMARKS = {
    "replicas": True,
    "criteria": True,
    "tracking": True,
    "short_trials": False,
    "report_scale": False,
    "transport": False,
    "resnet": False,
    "kernels": False,
    "launches": False,
    "few_shot": False,
    "cost": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="simulated", help="the scene of those that train on one")
    data = parser.parse_args().data
    failed = []
    for name, takes_scene in BENCHMARKS.items():
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--data", data] if takes_scene else [])]
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
