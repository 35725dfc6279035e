"""An S3 server of a check's own, whose buckets are folders: the example `s3_server`, built with the tests."""

import signal
import socket
import subprocess

from .service import TARGET

PROGRAM = TARGET / "debug/examples/s3_server"
NAME = "scenes"


class Bucket:
    def __init__(self, folder):
        if not PROGRAM.exists():
            raise SystemExit(f"no {PROGRAM}: `cargo build --workspace --examples` builds it")
        self.folder = folder
        self.files = folder / NAME
        self.files.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None
        self.url = f"s3://{NAME}/vggt"

    def start(self):
        words = [str(PROGRAM), str(self.folder), str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd="/")
        self.process.stdout.readline()
        return self

    def environment(self, scratch):
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "VGGT_SCRATCH": str(scratch),
        }

    def inputs(self):
        """The objects of jobs; the server leaves folders in which there is nothing any more."""
        return [path for path in (self.files / "vggt/.jobs").rglob("*") if path.is_file()]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
