"""Prints the disagreements between documents, rules and dashboard. Exits with 1 if there are any."""

import sys

import dashboard
import documents

found = [*documents.faults(), *dashboard.faults(dashboard.load())]
for fault in found:
    print(f"FAILED: {fault}", file=sys.stderr)
sys.exit(bool(found))
