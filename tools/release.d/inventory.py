#!/usr/bin/env python3
"""Says what is inside the programs of a release: one CycloneDX file each, and LICENSES.txt for all of them.

    inventory.py --out dist --ffmpeg PREFIX PROGRAM=FEATURES...

The crates come from cargo-cyclonedx, less those that cargo does not build. What cargo does not know is listed in
parts.py: FFmpeg and dav1d (PREFIX is what tools/ffmpeg_static prints), the C library, SQLite, the font, the demo's
checkpoint. Stops at a part without a license and at a crate without a text of it. Standard library only.

With SOURCE_DATE_EPOCH and VGGT_COMMIT set, the same commit gives the same bytes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

from parts import ROOT, Missing, folder_of, other_parts, run, sha256

TARGET = "x86_64-unknown-linux-gnu"
TEXT_FILES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# Crates that were published without a text, and the crate of the same authors and terms that has it. Where there is
# none, the terms are taken from the copies in this repository.
TEXT_IS_IN = {
    "candle-nn": "candle-core",
    "ffmpeg-sys-next": "ffmpeg-next",
    "pulp-wasm-simd-flag": "pulp",
}
# The other crates of the workspace, under the program's own license.
OWN_CRATES = ("vggt-model", "vggt-refine")
OWN_TEXTS = {"MIT OR Apache-2.0": ["LICENSE-APACHE"]}


def built_crates(features):
    """Names and versions that cargo compiles for the program. cargo metadata names more: what optional features of
    dependencies would bring."""
    lines = run(
        "cargo",
        "tree",
        "--locked",
        "--package",
        "vggt",
        "--edges",
        "normal,build",
        "--target",
        TARGET,
        "--features",
        features,
        "--prefix",
        "none",
        "--format",
        "{p}",
    )
    return {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, filter(None, lines.splitlines()))}


def cargo_sbom(features):
    """What cargo-cyclonedx says of the program; it writes beside every Cargo.toml, which is tidied up."""
    name = "inventory-of-release"
    files = [ROOT / folder / f"{name}.json" for folder in (".", "model", "refine")]
    try:
        run(
            "cargo",
            "cyclonedx",
            "--format",
            "json",
            "--spec-version",
            "1.5",
            "--target",
            TARGET,
            "--features",
            features,
            "--override-filename",
            name,
            "-qq",
        )
        return json.loads(files[0].read_text().replace(f"file://{ROOT}", "file:///vggt"))
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def describe(sbom, program, parts, crates, commit):
    """Brings what cargo-cyclonedx wrote in line with what was built, and adds what it does not know."""
    gone = set()
    kept = []
    for component in sbom["components"]:
        if (component["name"], component["version"]) in crates:
            kept.append(component)
        else:
            gone.add(component["bom-ref"])
        if not component.get("licenses"):
            raise Missing(f"the crate {component['name']} {component['version']} names no license")
    found = {(c["name"], c["version"]) for c in kept} | {("vggt", sbom["metadata"]["component"]["version"])}
    if crates - found:
        raise Missing(f"cargo builds what cargo-cyclonedx does not name: {sorted(crates - found)}")
    sbom["components"] = kept + [part.component() for part in parts]
    dependencies = []
    for entry in sbom["dependencies"]:
        if entry["ref"] not in gone:
            if "dependsOn" in entry:
                entry["dependsOn"] = [ref for ref in entry["dependsOn"] if ref not in gone]
            dependencies.append(entry)
    root = sbom["metadata"]["component"]
    own = next(entry for entry in dependencies if entry["ref"] == root["bom-ref"])
    own["dependsOn"] = own.get("dependsOn", []) + [part.purl for part in parts]
    sbom["dependencies"] = dependencies + [{"ref": part.purl} for part in parts]
    root["hashes"] = [{"alg": "SHA-256", "content": sha256(program)}]
    root["properties"] = [{"name": "vggt:commit", "value": commit}]
    sbom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'vggt:{program.name}:{sha256(program)}')}"
    return sbom


def crate_texts(crate, expression, folders):
    """The texts that a crate's authors published with it. `crate`: name and version."""
    folder = folders[crate]
    if crate[0] in TEXT_IS_IN:
        folder = folder_of(TEXT_IS_IN[crate[0]], folders)
    files = sorted(f for f in folder.iterdir() if TEXT_FILES.match(f.name) and f.is_file())
    if not files:
        files = [ROOT / name for name in OWN_TEXTS.get(expression, [])]
    if not files:
        raise Missing(
            f"the crate {' '.join(crate)} has no text of its license ({expression}): see TEXT_IS_IN in {__file__}"
        )
    return files


def licenses(title, rows):
    """`rows` of (name, version, license, texts) as one text: a table, then each text once."""
    numbers = {}
    texts = []
    table = []
    for name, version, expression, files in sorted(rows, key=lambda row: row[0].lower()):
        used = []
        for text in files:
            if isinstance(text, Path):
                text = text.read_text(errors="replace")
            text = text.replace("\r\n", "\n").strip("\n")
            key = " ".join(text.split())
            if key not in numbers:
                texts.append(text)
                numbers[key] = len(texts)
            used.append(f"[{numbers[key]}]")
        table.append(f"{f'{name} {version}':<48} {expression}  {' '.join(dict.fromkeys(used))}".rstrip())
    rule = "=" * 100
    return "\n".join([title, rule, *table, *(f"{rule}\n[{i}]\n\n{text}" for i, text in enumerate(texts, 1)), ""])


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--ffmpeg", type=Path, required=True)
    arguments.add_argument("programs", nargs="+", metavar="PROGRAM=FEATURES")
    arguments = arguments.parse_args()

    commit = os.environ.get("VGGT_COMMIT", "unknown")
    rows = {}
    for program, features in (argument.split("=", 1) for argument in arguments.programs):
        on_card = "cuda" in features.split(",")
        sbom = cargo_sbom(features)
        metadata = json.loads(
            run(
                "cargo",
                "metadata",
                "--locked",
                "--format-version",
                "1",
                "--filter-platform",
                TARGET,
                "--features",
                features,
            )
        )
        folders = {(p["name"], p["version"]): Path(p["manifest_path"]).parent for p in metadata["packages"]}
        parts = other_parts(not on_card, arguments.ffmpeg, folders)
        sbom = describe(sbom, arguments.out / program, parts, built_crates(features), commit)
        (arguments.out / f"{program}.cdx.json").write_text(json.dumps(sbom, indent=1, ensure_ascii=False) + "\n")
        by_ref = {part.purl: part for part in parts}
        version = sbom["metadata"]["component"]["version"]
        for component in sbom["components"]:
            if component.get("scope") == "excluded" or component["name"] in OWN_CRATES:
                continue
            expression = component["licenses"][0]["expression"]
            part = by_ref.get(component["bom-ref"])
            files = part.texts if part else crate_texts((component["name"], component["version"]), expression, folders)
            rows[component["name"], component["version"]] = (component["name"], component["version"], expression, files)
        print(f"inventory: {program}: {len(sbom['components'])} parts, {len(parts)} of them no crates", file=sys.stderr)
    own = ("vggt", version, "MIT OR Apache-2.0", [ROOT / "LICENSE-MIT", ROOT / "LICENSE-APACHE"])
    title = (
        f"vggt {version} (commit {commit}) is under the MIT or the Apache 2.0 license, as you prefer. Inside are the\n"
        "following, each under its own terms; the numbers stand at their texts below. FFmpeg and the C library are\n"
        "under the LGPL: RELINK.md tells how to put others in their place.\n"
    )
    (arguments.out / "LICENSES.txt").write_text(licenses(title, [own, *rows.values()]))


if __name__ == "__main__":
    try:
        main()
    except (Missing, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"inventory: {error}")
