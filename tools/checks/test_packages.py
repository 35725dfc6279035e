#!/usr/bin/env python3
"""The steps of tools/checks/test_packages, which gives this process mounts of its own."""

import argparse
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from packages import deb, files, image, wheel  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", type=pathlib.Path)
    dist = parser.parse_args().dist.resolve()
    with tempfile.TemporaryDirectory(prefix="test-packages-") as folder:
        # Users of the roots have to get through.
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        for part in (files, wheel, deb, image):
            start = time.monotonic()
            (folder / part.__name__).mkdir()
            part.run_part(dist, folder / part.__name__)
            print(f"        {time.monotonic() - start:.0f} s", flush=True)
    print("test_packages: all passed", file=sys.stderr)


if __name__ == "__main__":
    main()
