"""Verifies the chain of an audit log, as docs/audit.md describes it: verify_audit.py OLDEST_FILE ... NEWEST_FILE

Prints the head of the chain.
"""

import hashlib
import json
import sys

seq, prev = 0, ""
for name in sys.argv[1:]:
    for number, line in enumerate(open(name, "rb"), 1):
        line = line.removesuffix(b"\n")
        record = json.loads(line)
        if (record["seq"], record["prev"]) != (seq + 1, prev):
            sys.exit(f"{name}:{number}: broken")
        seq, prev = record["seq"], hashlib.sha256(line).hexdigest()
print(f"{seq}:{prev}")
