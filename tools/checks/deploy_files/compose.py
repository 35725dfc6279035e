"""deploy/compose: one file, and the variables that it takes from .env."""

import re
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

from steps import expect, step

from . import documents_of

# Of the Compose Specification, those that are used here: another one is added here after a look at the specification.
TOP = {"name", "services", "volumes"}
SERVICE = {
    "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "ports", "profiles", "read_only", "restart", "scale",
    "security_opt", "shm_size", "stop_grace_period", "volumes",
}  # fmt: skip
HEALTH = {"test", "interval", "timeout", "retries"}
IMAGE = "vggt"
UNTIL_KILLED_S = 10  # without stop_grace_period
# What the images listen on where no option says otherwise.
PORTS = {"database": {"5432"}}


def interpolated(tree, variables):
    """The texts of a tree with their variables, as Compose does it; with an error for a variable that nobody has named."""
    if isinstance(tree, dict):
        return {key: interpolated(value, variables) for key, value in tree.items()}
    if isinstance(tree, list):
        return [interpolated(value, variables) for value in tree]

    def value(match):
        name, rule, rest = match["name"], match["rule"] or "", match["rest"] or ""
        expect(rule.lstrip(":").startswith("-") or name in variables, f"env.example lacks {name}")
        found = variables.get(name)
        if rule == "?" or rule == ":?":
            return found or "set-by-hand"
        missing = found is None or rule.startswith(":") and not found
        return rest if missing else found

    return re.sub(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<rule>:?[-?])(?P<rest>[^}]*))?\}", value, tree) if isinstance(tree, str) else tree


def assignments(text):
    """NAME=VALUE lines of a file of variables, without the comments."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.partition("=")[::2] for line in lines)


def seconds(text):
    found = re.fullmatch(r"(\d+)s", text)
    expect(found, f"{text!r} is not a number of seconds")
    return int(found[1])


def check(root, program):
    folder = root / "deploy/compose"
    with step("compose.yaml: its keys, variables, services and volumes"):
        text = (folder / "compose.yaml").read_text()
        variables = assignments((folder / "env.example").read_text())
        unused = [name for name in variables if not re.search(rf"\$\{{{name}\b", text)]
        expect(not unused, f"env.example has what compose.yaml does not use: {unused}")
        (project,) = documents_of(text)
        project = interpolated(project, variables)
        shape(project, folder)
    with step("compose.yaml: the command lines of vggt"):
        commands(project, program)
    with step("compose.yaml: database, bucket and vggt fit together"):
        together(project["services"])
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        with step("docker compose config"), tempfile.NamedTemporaryFile("w") as env:
            env.write("".join(f"{name}={value or 'x'}\n" for name, value in variables.items()))
            env.flush()
            words = ["docker", "compose", "--file", folder / "compose.yaml", "--env-file", env.name, "config", "--quiet"]
            subprocess.run(words, check=True, capture_output=True, text=True)
    else:
        print("left out: docker compose config, there is no Docker Compose", flush=True)


def shape(project, folder):
    top = {key for key in project if not key.startswith("x-")}
    expect(top <= TOP, f"unknown keys: {sorted(top - TOP)}")
    services, volumes = project["services"], set(project["volumes"])
    mounted = set()
    for name, service in services.items():
        expect(set(service) <= SERVICE, f"{name}: unknown keys: {sorted(set(service) - SERVICE)}")
        expect(re.fullmatch(r"[\w./-]+:[\w.-]+", service["image"]), f"{name}: {service['image']!r} is not an image with a tag")
        for value in [*service.get("environment", {}).values(), *service["command"]]:
            expect(isinstance(value, str), f"{name}: {value!r} is not a text: it needs quotes")
        health = service.get("healthcheck", {})
        expect(set(health) <= HEALTH, f"{name}: healthcheck has unknown keys")
        for other, condition in service.get("depends_on", {}).items():
            expect(other in services, f"{name} depends on {other}, which is not there")
            expect(condition == {"condition": "service_healthy"}, f"{name}: {condition}")
            expect("healthcheck" in services[other], f"{name} waits for the health of {other}, which has no healthcheck")
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                expect((folder / source).exists(), f"{name}: there is no {source}")
            else:
                mounted.add(source)
    expect(mounted == volumes, f"volumes are {sorted(volumes)}, mounted are {sorted(mounted)}")


def commands(project, program):
    for name, service in project["services"].items():
        image, _, tag = service["image"].rpartition(":")
        if image != IMAGE:
            continue
        expect(tag == program.version, f"{name}: the image is {tag}, the program {program.version}")
        command, environment = service["command"], service["environment"]
        program.accepts(name, command)
        program.knows(name, command[0], environment)
        inner = {port.rpartition(":")[2] for port in service.get("ports", [])}
        expect(inner <= program.ports(command), f"{name}: published are {sorted(inner)}, open are {sorted(program.ports(command))}")
        if command[0] in ("serve", "worker"):
            program.has_time(name, command, seconds(service.get("stop_grace_period", f"{UNTIL_KILLED_S}s")))
            writable = environment["VGGT_SCRATCH"].startswith("/data/")
            expect(service.get("read_only") and writable, f"{name}: scratch files go to /data, the only place that can be written")
        test = service.get("healthcheck", {}).get("test")
        if test:
            expect(test[:2] == ["CMD", "/vggt"], f"{name}: {test}: the image has nothing but /vggt")
            program.accepts(f"{name}: healthcheck", test[2:])


def together(services):
    database, bucket = services["database"]["environment"], services["bucket"]
    options = dict(word.lstrip("-").partition("=")[::2] for word in bucket["command"][1:])
    for name, service in services.items():
        environment = service.get("environment", {})
        if "VGGT_DB" in environment:
            url = urllib.parse.urlsplit(environment["VGGT_DB"])
            expect(url.hostname in services and str(url.port) in PORTS[url.hostname], f"{name}: VGGT_DB leads to {url.netloc}")
            expect(url.username == database["POSTGRES_USER"], f"{name}: {url.username} is not POSTGRES_USER")
            expect(url.path == "/" + database["POSTGRES_DB"], f"{name}: {url.path} is not POSTGRES_DB")
            expect(environment["PGPASSWORD"] == database["POSTGRES_PASSWORD"], f"{name}: another password than the database")
            expect(environment["VGGT_OUT_ROOT"] == f"s3://{options['bucket']}", f"{name}: another bucket than {options['bucket']}")
        if "AWS_ENDPOINT_URL_S3" in environment:
            url = urllib.parse.urlsplit(environment["AWS_ENDPOINT_URL_S3"])
            expect(url.hostname == "bucket" == options["ip"], f"{name}: the endpoint is at {url.hostname}")
            expect(str(url.port) == options["s3.port"], f"{name}: the endpoint is at {url.port}")
            if Path(service["image"]).name.startswith(f"{IMAGE}:"):
                expect(environment.get("AWS_ALLOW_HTTP") == "true", f"{name}: an endpoint without TLS needs AWS_ALLOW_HTTP")
        if name != "bucket" and "AWS_ACCESS_KEY_ID" in environment:
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                expect(environment[key] == bucket["environment"][key], f"{name}: another {key} than the bucket")
    lifecycle = services["bucket-lifecycle"]["command"]
    expect(lifecycle[lifecycle.index("--bucket") + 1] == options["bucket"], "bucket-lifecycle: another bucket")
    health = " ".join(bucket["healthcheck"]["test"])
    expect(f"/buckets/{options['bucket']}/" in health, f"the health of the bucket is that of another: {health}")
