// The Khronos glTF validator over files and folders; see validate_glb.
"use strict";
const fs = require("fs");
const path = require("path");
const validator = require("gltf-validator");

// Errors and warnings are faults, infos and hints are shown and pass.
const SEVERITIES = ["error", "warning", "info", "hint"];

function filesOf(place) {
  if (!fs.statSync(place).isDirectory()) return [place];
  return fs
    .readdirSync(place)
    .filter((name) => name.endsWith(".glb"))
    .sort()
    .map((name) => path.join(place, name));
}

async function main(places) {
  const files = places.flatMap(filesOf);
  let faults = 0;
  for (const file of files) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), { maxIssues: 100 });
    const { numErrors, numWarnings, numInfos, numHints, messages } = report.issues;
    console.log(`${file}: ${numErrors} errors, ${numWarnings} warnings, ${numInfos} infos, ${numHints} hints`);
    for (const { severity, code, message, pointer } of messages) {
      console.log(`  ${SEVERITIES[severity]} ${code} at ${pointer ?? "the file"}: ${message}`);
    }
    faults += numErrors + numWarnings;
  }
  console.log(`${files.length} files, ${faults} errors and warnings`);
  return files.length > 0 && faults === 0 ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    console.error(`cannot validate: ${error.message}`);
    process.exit(1);
  },
);
