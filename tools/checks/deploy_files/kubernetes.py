"""deploy/kubernetes: schemas, and that names lead somewhere."""

import re
import shutil
import subprocess
import urllib.parse

import kubernetes_validate
from steps import expect, step

from . import documents_of

VERSION = "1.34"  # of the schemas; preStop.sleep is stable since then
NAMESPACE = "vggt"
IMAGES = {"vggt", "vggt-cuda"}
# Not in kustomization.yaml: templates, and what takes the place of a file that is there.
OTHERS = {"secret.example.yaml", "postgres.example.yaml", "scaling.yaml"}
INSTEAD = {"worker-gpu.yaml": "worker.yaml"}
# What the schemas call a text.
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTP]|[KMGTP]i)?")
KEDA = {"ScaledObject", "TriggerAuthentication"}
METADATA = {"host", "port", "userName", "dbName", "sslmode", "query", "targetQueryValue", "activationTargetQueryValue"}


def check(root, program):
    folder = root / "deploy/kubernetes"
    with step(f"kubernetes: the schemas of {VERSION}"):
        files = {path.name: documents_of(path.read_text()) for path in sorted(folder.glob("*.yaml"))}
        (kustomization,) = files.pop("kustomization.yaml")
        for name, documents in files.items():
            for document in documents:
                schema(name, document)
        listed = set(kustomization["resources"])
        expect(listed <= set(files), f"kustomization.yaml lists {sorted(listed - set(files))}")
        left = set(files) - listed - OTHERS - set(INSTEAD)
        expect(not left, f"kustomization.yaml leaves out {sorted(left)}")
    for instead in (None, *INSTEAD):
        used = ({*listed, *OTHERS} - {INSTEAD.get(instead)}) | ({instead} if instead else set())
        with step(f"kubernetes with {instead or 'worker.yaml'}: names, ports, command lines"):
            Cluster([document for name in sorted(used) for document in files[name]], program).check()
    if shutil.which("kubectl"):
        with step("kubectl kustomize"):
            words = ["kubectl", "kustomize", folder]
            built = documents_of(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            expect(len(built) == sum(len(files[name]) for name in listed), f"{len(built)} objects")
    else:
        print("left out: kubectl kustomize, there is no kubectl", flush=True)


def schema(name, document):
    if document["kind"] in KEDA:
        expect(document["apiVersion"] == "keda.sh/v1alpha1", f"{name}: {document['apiVersion']}")
        return
    try:
        kubernetes_validate.validate(document, VERSION, strict=True)
    except kubernetes_validate.ValidationError as e:
        expect(False, f"{name}: {document['kind']} {document['metadata']['name']}: {'.'.join(map(str, e.path))}: {e.message}")


def is_part(part, whole):
    return part.items() <= whole.items()


class Cluster:
    """What would be applied together."""

    def __init__(self, documents, program):
        self.program, self.objects = program, {}
        for document in documents:
            key = document["kind"], document["metadata"]["name"]
            expect(key not in self.objects, f"{key} is there twice")
            self.objects[key] = document
            space = document["metadata"].get("namespace")
            expect(space == NAMESPACE or document["kind"] == "Namespace", f"{key} is in the namespace {space}")

    def of(self, *kinds):
        return {name: document for (kind, name), document in self.objects.items() if kind in kinds}

    def get(self, where, kind, name):
        expect((kind, name) in self.objects, f"{where}: there is no {kind} {name}")
        return self.objects[kind, name]

    def check(self):
        self.caps = {}
        for name, workload in self.of("Deployment", "StatefulSet", "Job").items():
            self.workload(name, workload)
        expect(len(set(self.caps.values())) == 1, f"--running-per-user differs: {self.caps}")
        for name, service in self.of("Service").items():
            self.service(name, service["spec"])
        for name, budget in self.of("PodDisruptionBudget").items():
            self.pods(name, budget["spec"]["selector"]["matchLabels"])
        for name, scaled in self.of("ScaledObject").items():
            self.scaled(name, scaled["spec"])

    def workload(self, name, workload):
        template = workload["spec"]["template"]
        if "selector" in workload["spec"]:
            labels = workload["spec"]["selector"]["matchLabels"]
            expect(is_part(labels, template["metadata"]["labels"]), f"{name}: its selector does not select its own pods")
        for spread in template["spec"].get("topologySpreadConstraints", []):
            self.pods(name, spread["labelSelector"]["matchLabels"])
        pod = template["spec"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                self.get(name, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
        (container,) = pod["containers"]
        quantities = [value for part in container["resources"].values() for value in part.values()]
        quantities += [volume["emptyDir"]["sizeLimit"] for volume in volumes.values() if "emptyDir" in volume]
        for value in quantities:
            expect(QUANTITY.fullmatch(str(value)), f"{name}: {value!r} is not a quantity")
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        expect(mounted == set(volumes) | claims, f"{name}: volumes {sorted(set(volumes) | claims)}, mounted {sorted(mounted)}")
        ports = {port["name"]: str(port["containerPort"]) for port in container.get("ports", [])}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = container.get(kind, {}).get("httpGet", {"port": None, "path": "/health"})
            expect(get["port"] is None or get["port"] in ports, f"{name}: {kind} asks the port {get['port']}")
            expect(get["path"] in ("/health", "/ready"), f"{name}: {kind} asks for {get['path']}")
        environment = self.environment(name, container)
        image, _, tag = container["image"].rpartition(":")
        if image.rpartition("/")[2] in IMAGES:
            self.vggt(name, container, pod, environment, ports, tag)

    def environment(self, name, container):
        found = {}
        for source in container.get("envFrom", []):
            found |= self.get(name, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            if "value" in variable:
                found[variable["name"]] = variable["value"]
                continue
            ref = variable["valueFrom"]["secretKeyRef"]
            expect(ref["key"] in self.get(name, "Secret", ref["name"])["stringData"], f"{name}: no key {ref['key']} in the secret")
            found[variable["name"]] = ""
        return found

    def vggt(self, name, container, pod, environment, ports, tag):
        args = container["args"]
        expect(tag == self.program.version, f"{name}: the image is {tag}, the program {self.program.version}")
        self.program.accepts(name, args)
        self.program.knows(name, args[0], environment)
        if args[0] not in ("serve", "worker"):
            return
        open_ports = self.program.ports(args)
        expect(set(ports.values()) == open_ports, f"{name}: declared are {ports}, open are {sorted(open_ports)}")
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        self.program.has_time(name, args, pod["terminationGracePeriodSeconds"] - pause)
        self.caps[name] = self.program.value(args, "running-per-user")
        paths = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        scratch = environment["VGGT_SCRATCH"]
        expect(any(scratch.startswith(path + "/") for path in paths), f"{name}: {scratch} is in none of {paths}")

    def pods(self, name, labels):
        """The pod templates that labels select."""
        templates = [w["spec"]["template"] for w in self.of("Deployment", "StatefulSet").values()]
        found = [template for template in templates if is_part(labels, template["metadata"]["labels"])]
        expect(len(found) == 1, f"{name}: {labels} select {len(found)} workloads")
        return found[0]["spec"]

    def service(self, name, spec):
        (container,) = self.pods(name, spec["selector"])["containers"]
        known = {port["name"] for port in container["ports"]}
        wanted = {port["targetPort"] for port in spec["ports"]}
        expect(wanted <= known, f"{name}: ports {sorted(wanted)}, the pods have {sorted(known)}")

    def scaled(self, name, spec):
        target = self.get(name, "Deployment", spec["scaleTargetRef"]["name"])
        args = target["spec"]["template"]["spec"]["containers"][0]["args"]
        (trigger,) = spec["triggers"]
        expect(trigger["type"] == "postgresql", f"{name}: {trigger['type']}")
        metadata = trigger["metadata"]
        expect(set(metadata) == METADATA, f"{name}: unlike what the scaler knows: {sorted(set(metadata) ^ METADATA)}")
        expect(all(isinstance(value, str) for value in metadata.values()), f"{name}: the metadata are texts")
        login = self.get(name, "TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]["secretTargetRef"]
        for ref in login:
            expect(ref["parameter"] == "password", f"{name}: {ref}")
            expect(ref["key"] in self.get(name, "Secret", ref["name"])["stringData"], f"{name}: no key {ref['key']} in the secret")
        url = urllib.parse.urlsplit(self.get(name, "ConfigMap", NAMESPACE)["data"]["VGGT_DB"])
        of_url = {"host": url.hostname, "port": str(url.port), "dbName": url.path[1:], **dict(urllib.parse.parse_qsl(url.query))}
        for key, value in of_url.items():
            expect(metadata[key] == value, f"{name}: {key} is {metadata[key]}, in VGGT_DB {value}")
        jobs = self.program.value(args, "max-jobs")
        expect(metadata["targetQueryValue"] == jobs, f"{name}: targetQueryValue {metadata['targetQueryValue']}, --max-jobs {jobs}")
        only = [arg.partition("=")[2].split(",") for arg in args if arg.startswith("--only=")]
        wanted = sorted({"small", "medium", "large"} & set(only[0])) if only else ["large", "medium", "small"]
        counted = [sorted(re.findall(r"\w+", sizes)) for sizes in re.findall(r"size IN \(([^)]*)\)", metadata["query"])]
        expect(counted and all(sizes == wanted for sizes in counted), f"{name}: counts {counted}, the workers take {wanted}")
        cap = re.search(r"greatest\((\d+) - busy", metadata["query"])
        expect(cap and cap[1] in self.caps.values(), f"{name}: the query has another --running-per-user than {self.caps}")
