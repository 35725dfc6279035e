#!/usr/bin/env python3
"""Checks the Python package `vggt_client` against `vggt serve --demo`, against peers of other kinds, and on damaged files.

    tools/checks/check_client.py                        tools/python, and the program of the dev profile
    tools/checks/check_client.py --installed            the package that this Python has, as from the wheel
    tools/checks/check_client.py --program dist/vggt    another program

Over the TCP port, HTTP and HTTPS, whose certificate openssl makes. Needs numpy, without which --no-numpy leaves out the saved predictions. Prints each step; exit code 1 at the first that fails.
"""

import argparse
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, help="the vggt to run (target/debug/vggt)")
    parser.add_argument("--installed", action="store_true", help="check the installed package instead of the sources")
    parser.add_argument("--no-numpy", action="store_true", help="leave out the saved predictions")
    args = parser.parse_args()
    if not args.installed:
        sys.path.insert(0, str(HERE.parent / "python"))
    # After the path is set.
    from attack.service import TARGET
    from python_client import http, http_peers, peers, service

    parts = [service, peers, http, http_peers]
    if not args.no_numpy:
        from python_client import predictions

        parts.append(predictions)
    program = (args.program or TARGET / "debug/vggt").resolve()
    with tempfile.TemporaryDirectory(prefix="check-client-") as folder:
        folder = pathlib.Path(folder)
        for checks in parts:
            (folder / checks.__name__).mkdir()
            checks.run(program, folder / checks.__name__)
    print("check_client: all passed", file=sys.stderr)


if __name__ == "__main__":
    main()
