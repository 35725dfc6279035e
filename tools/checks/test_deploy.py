#!/usr/bin/env python3
"""Breaks copies of the files of deploy/ in many ways: tools/checks/deploy must fail for each, and say which file or name it is.

    tools/checks/test_deploy.py                        with the vggt of the dev profile
    tools/checks/test_deploy.py --program dist/vggt

Needs what tools/checks/deploy needs. Prints each break with what was said; exit code 1 if one was not found.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from attack.service import REPOSITORY, TARGET  # noqa: E402

COPIED = ("deploy", "docs", "migrations", "Cargo.toml", "src/store/queue/claim.rs", "tools/release.d/vggt.service")
COMPOSE, ENV = "deploy/compose/compose.yaml", "deploy/compose/env.example"
FRONT, WORKER, GPU = (f"deploy/kubernetes/{name}.yaml" for name in ("front-end", "worker", "worker-gpu"))
CONFIG, SECRET, SCALING = (f"deploy/kubernetes/{name}" for name in ("config.yaml", "secret.example.yaml", "scaling.yaml"))
KUSTOMIZATION, POSTGRES = "deploy/kubernetes/kustomization.yaml", "deploy/kubernetes/postgres.example.yaml"
UNIT, VARIABLES, SERVICE = "deploy/systemd/vggt-worker@.service", "deploy/systemd/vggt.env.example", "tools/release.d/vggt.service"
DOCUMENT, POLICY, LIFECYCLE = "docs/several-machines.md", "deploy/bucket/policy.json", "deploy/bucket/lifecycle.json"

# Part, file, what is replaced, by what.
BREAKS = [
    ("compose", COMPOSE, "services:\n", "servces:\n"),
    ("compose", COMPOSE, "healthcheck:\n      # The image", "healtcheck:\n      # The image"),
    ("compose", COMPOSE, "    restart: unless-stopped\n", "    restart: unless-stopped\n    restart: always\n"),
    ("compose", COMPOSE, "    shm_size: 256m", "   shm_size: 256m"),
    ("compose", COMPOSE, '--workers, "0"', '--wokers, "0"'),
    ("compose", COMPOSE, '--workers, "0"', "--workers, 0"),
    ("compose", COMPOSE, "VGGT_SCRATCH: /data/scratch", "VGGT_SCRATCHES: /data/scratch"),
    ("compose", COMPOSE, "VGGT_SCRATCH: /data/scratch", "VGGT_SCRATCH: /scratch"),
    ("compose", COMPOSE, "AWS_ENDPOINT_URL_S3: http://bucket:8333\n  #", "AWS_ENDPOINT_URL_S3: http://bucket:9000\n  #"),
    ("compose", COMPOSE, "AWS_ENDPOINT_URL_S3: http://bucket:8333\n  #", "AWS_ENDPOINT_URL_S4: http://bucket:8333\n  #"),
    ("compose", COMPOSE, 'AWS_ALLOW_HTTP: "true"', 'AWS_ALLOW_HTTP: "false"'),
    ("compose", COMPOSE, "s3://vggt", "s3://vggt-scans"),
    ("compose", COMPOSE, "vggt@database:5432", "vggt@postgres:5432"),
    ("compose", COMPOSE, "POSTGRES_DB: vggt", "POSTGRES_DB: scans"),
    ("compose", COMPOSE, '--grace, "60"', '--grace, "80"'),
    ("compose", COMPOSE, "    stop_grace_period: 90s\n", ""),
    ("compose", COMPOSE, "127.0.0.1:4568:4568", "127.0.0.1:4568:8080"),
    ("compose", COMPOSE, "client, --host", "client, --hots"),
    ("compose", COMPOSE, "    depends_on:\n      bucket:", "    depends_on:\n      buckets:"),
    ("compose", COMPOSE, '["weights:/weights:ro"]', '["wieghts:/weights:ro"]'),
    ("compose", COMPOSE, "../bucket/lifecycle.json", "../bucket/lifecycles.json"),
    ("compose", COMPOSE, "VGGT_IMAGE:-vggt:0.1.0", "VGGT_IMAGE:-vggt:0.2.0"),
    ("compose", ENV, "WORKER_THREADS=2", "WORKER_THREAD=2"),
    ("compose", ENV, "BUCKET_ACCESS_KEY=\n", ""),
    ("kubernetes", FRONT, "readinessProbe", "readynessProbe"),
    ("kubernetes", FRONT, "replicas: 2", 'replicas: "2"'),
    ("kubernetes", FRONT, "path: /ready, port: http", "path: /ready, port: htpp"),
    ("kubernetes", FRONT, "path: /ready", "path: /redy"),
    ("kubernetes", FRONT, "containerPort: 4568", "containerPort: 4569"),
    ("kubernetes", FRONT, "targetPort: http", "targetPort: https"),
    ("kubernetes", FRONT, "--queue-per-user=8", "--queue-each-user=8"),
    ("kubernetes", FRONT, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 45"),
    ("kubernetes", FRONT, "  selector:\n    app.kubernetes.io/name: vggt\n", "  selector:\n    app.kubernetes.io/name: vgtt\n"),
    ("kubernetes", FRONT, "configMapRef: { name: vggt }", "configMapRef: { name: vggt-config }"),
    ("kubernetes", FRONT, "namespace: vggt", "namespace: default"),
    ("kubernetes", FRONT, "--running-per-user=4", "--running-per-user=6"),
    ("kubernetes", WORKER, "--grace=240", "--grace=260"),
    ("kubernetes", WORKER, "--device=cpu", "--device=cqu"),
    ("kubernetes", WORKER, "image: vggt:0.1.0", "image: vggt:0.0.9"),
    ("kubernetes", WORKER, "key: PGPASSWORD", "key: PASSWORD"),
    ("kubernetes", WORKER, "claimName: vggt-weights", "claimName: weights"),
    ("kubernetes", WORKER, "{ name: tmp, mountPath: /tmp }", "{ name: temp, mountPath: /tmp }"),
    ("kubernetes", WORKER, "  name: vggt-worker\n", "  name: vggt-workers\n"),
    ("kubernetes", WORKER, "--http=0.0.0.0:9464", "--http=0.0.0.0:9465"),
    ("kubernetes", WORKER, "--max-jobs=1", "--max-jobs=2"),
    ("kubernetes", WORKER, "--max-jobs=1", "--max-jobs=1\n            - --only=small,medium"),
    ("kubernetes", GPU, "--device=cuda:0", "--devices=cuda:0"),
    ("kubernetes", GPU, "nvidia.com/gpu: 1", "nvidia.com/gpu: one"),
    ("kubernetes", CONFIG, "VGGT_OUT_ROOT", "VGGT_OUTROOT"),
    ("kubernetes", CONFIG, "/vggt?sslmode=verify-full", "/scans?sslmode=verify-full"),
    ("kubernetes", CONFIG, "VGGT_SCRATCH: /data/scratch", "VGGT_SCRATCH: /scratch"),
    ("kubernetes", SECRET, "SCALER_PASSWORD:", "KEDA_PASSWORD:"),
    ("kubernetes", SCALING, "name: vggt-worker\n  #", "name: vggt-wroker\n  #"),
    ("kubernetes", SCALING, "host: db.example", "host: database.example"),
    ("kubernetes", SCALING, 'port: "5432"', "port: 5432"),
    ("kubernetes", SCALING, "targetQueryValue", "targetValue"),
    ("kubernetes", SCALING, "greatest(4 - busy", "greatest(5 - busy"),
    ("kubernetes", KUSTOMIZATION, "  - worker.yaml", "  - workers.yaml"),
    ("kubernetes", KUSTOMIZATION, "  - front-end.yaml\n", ""),
    ("kubernetes", POSTGRES, "targetPort: postgres", "targetPort: psql"),
    ("kubernetes", POSTGRES, "name: database, mountPath", "name: data, mountPath"),
    ("scaling", SCALING, "GROUP BY user_id", "GROUP BY users_id"),
    ("scaling", SCALING, "greatest(4 - busy, 0)", "greatest(4 - busy, 99)"),
    ("scaling", SCALING, "(not_before IS NULL OR not_before <= now())", "TRUE"),
    ("scaling", SCALING, "sum(running + ", "sum("),
    ("scaling", SCALING, "userName: vggt_scaler", "userName: vggt_reader"),
    ("scaling", "deploy/kubernetes/scaler.sql", "state, size,", "state,"),
    ("units", UNIT, "[Service]\nType=exec", "[Srevice]\nType=exec"),
    ("units", UNIT, "ProtectHome=yes", "ProtectHome=perhaps"),
    ("units", UNIT, "RestrictNamespaces=yes\n", ""),
    ("units", UNIT, "--device %i", "--device-name %i"),
    ("units", UNIT, "TimeoutStopSec=150", "TimeoutStopSec=120"),
    ("units", UNIT, "Type=exec", "Type=excec"),
    ("units", VARIABLES, "VGGT_OUT_ROOT", "VGGT_OUTPUT_ROOT"),
    ("units", VARIABLES, "--workers 0", "--worker 0"),
    ("units", SERVICE, "SystemCallErrorNumber=EPERM", "SystemCallErrorNumber=EPREM"),
    ("documents", POLICY, "s3:DeleteObject", "s3:DeleteObjects"),
    ("documents", LIFECYCLE, '"DaysAfterInitiation": 1', '"DaysAfterInitiation": 2'),
    ("documents", DOCUMENT, '"Status": "Enabled"', '"Status": "Disabled"'),
    ("documents", "deploy/README.md", "(systemd/vggt.env.example)", "(systemd/vggt.env)"),
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=TARGET / "debug/vggt", help="the vggt to ask (target/debug/vggt)")
    args = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="vggt-test-deploy-") as folder:
        for part, name, old, new in BREAKS:
            copy = pathlib.Path(folder) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            for path in COPIED:
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (REPOSITORY / path).is_dir() else shutil.copy)(REPOSITORY / path, copy / path)
            text = (copy / name).read_text()
            if old not in text:
                sys.exit(f"{name} has no {old!r}")
            (copy / name).write_text(text.replace(old, new, 1))
            check = [sys.executable, pathlib.Path(__file__).with_name("deploy"), "--root", copy, "--part", part, "--program", args.program]
            done = subprocess.run(check, capture_output=True, text=True, check=False)
            is_found = done.returncode == 1 and "FAILED" in done.stderr
            said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "nothing"
            print(f"{'found ' if is_found else 'MISSED'}  {name}: {old!r} -> {new!r}\n        {said[:200]}", flush=True)
            missed += not is_found
    print(f"{len(BREAKS)} breaks, {missed} missed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
