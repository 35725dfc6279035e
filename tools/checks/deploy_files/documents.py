"""What the documentation repeats of the files, and what it says of all of them."""

import json
import re

from steps import expect, step

BUCKET = ("policy.json", "lifecycle.json")  # as the documentation has them
# All that an object store has to be asked for: see src/store/bucket.
ACTIONS = {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}


def check(root, _program):
    with step("the rules for a bucket in docs/several-machines.md are the files of deploy/bucket"):
        text = (root / "docs/several-machines.md").read_text()
        shown = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
        files = [json.loads((root / "deploy/bucket" / name).read_text()) for name in BUCKET]
        expect(shown == files, "the documentation shows others")
        policy, lifecycle = files
        expect(any("AbortIncompleteMultipartUpload" in rule for rule in lifecycle["Rules"]), "no rule for interrupted uploads")
        # A rule that expires objects would remove results behind the back of the database.
        expect(not any("Expiration" in rule for rule in lifecycle["Rules"]), "a rule removes objects")
        actions = [statement["Action"] for statement in policy["Statement"]]
        actions = {action for found in actions for action in ([found] if isinstance(found, str) else found)}
        expect(actions == ACTIONS, f"the policy allows {sorted(actions)}")
    with step("deploy/README.md names every file"):
        readme = (root / "deploy/README.md").read_text()
        for path in sorted((root / "deploy").rglob("*")):
            name = str(path.relative_to(root / "deploy"))
            expect(path.is_dir() or f"({name})" in readme or name == "README.md", f"it does not name {name}")
