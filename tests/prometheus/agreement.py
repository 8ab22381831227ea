"""Prints what does not agree in documents, rules and dashboard; ends with 1 if there is anything."""

import sys

import dashboard
import documents

found = [*documents.faults(), *dashboard.faults(dashboard.load())]
for fault in found:
    print(f"FAILED: {fault}", file=sys.stderr)
sys.exit(bool(found))
