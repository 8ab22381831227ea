"""Checks rendered manifests strictly against the schemas of several Kubernetes versions, then against the rules of
manifests.py and configuration.py. With --mutants, tests that the checks detect each fault of mutants.py."""

import argparse
import copy
import functools
import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml

import configuration
import manifests
from mutants import MUTANTS, STORE_MUTANTS

# `sleep` in a preStop hook is on by default from 1.30.
VERSIONS = [f"1.{minor}" for minor in range(30, 38)]


@functools.cache
def schema_faults_of(text):
    """Returns the faults of one object, given as JSON. Cached, because most objects are the same in all renderings."""
    doc = json.loads(text)
    if (doc["apiVersion"], doc["kind"]) in manifests.CUSTOM:
        return []
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(doc, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            found.append(f"{doc['kind']} {doc['metadata']['name']} for {version}: {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
    return found


def schema_faults(docs):
    return [fault for doc in docs for fault in schema_faults_of(json.dumps(doc))]


def all_faults(docs, arguments, elsewhere, base=False):
    """Returns the faults of the first stage that finds any: each stage relies on the checks of the previous one."""
    found = schema_faults(docs) or manifests.faults(docs, base)
    return found if found or base else configuration.faults(docs, arguments.useradmin, elsewhere)


def check_mutants(mutants, docs, arguments, elsewhere):
    for name, mutate, expected in mutants:
        mutant = copy.deepcopy(docs)
        mutate(mutant)
        found = all_faults(mutant, arguments, elsewhere)
        if not any(expected in fault for fault in found):
            yield f"not found: {name}; found: {found}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--useradmin", required=True, help="the program, for check-config")
    parser.add_argument("--tls", required=True, type=Path, help="a folder with tls.crt and tls.key")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    elsewhere = {"useradmin-tls": {file.name: file.read_bytes() for file in arguments.tls.iterdir()}}
    failed = False
    for file in arguments.files:
        docs = [doc for doc in yaml.safe_load_all(file.read_text(encoding="utf-8")) if doc]
        if file.stem.endswith("-with-all"):
            configuration.switch_on(docs)
        if arguments.mutants:
            mutants = STORE_MUTANTS if manifests.jobs(docs) else MUTANTS
            found = list(check_mutants(mutants, docs, arguments, elsewhere))
            done = f"{len(mutants)} mutants found"
        else:
            found = all_faults(docs, arguments, elsewhere, base=file.stem == "base")
            done = f"{len(docs)} objects, Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}"
        for fault in found:
            print(f"{file.stem}: {fault}", file=sys.stderr)
        failed = failed or bool(found)
        print(f"   {file.stem}: {'FAILED' if found else done}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
