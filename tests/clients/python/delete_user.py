"""Deletes one user by the gRPC service useradmin.

delete_user.py --ca ca.pem --cert client.pem --key client.key batch POOL NODE USER
delete_user.py --ca ca.pem --token token hmc USER
delete_user.py --plaintext --validate-only hmc USER
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from useradmin.v1.user_admin_pb2 import DeleteBatchNodeUserRequest, DeleteHmcUserRequest, DeleteOutcome
from useradmin.v1.user_admin_pb2_grpc import UserAdminStub

from connection import connect, connect_plaintext
from failure import Failure


def delete(stub: UserAdminStub, arguments: argparse.Namespace) -> DeleteOutcome:
    # Every call needs a deadline. The server applies 30 seconds if there is none, and 60 at most.
    flags = {"allow_missing": arguments.allow_missing, "validate_only": arguments.validate_only}
    if arguments.system == "hmc":
        request = DeleteHmcUserRequest(user_name=arguments.user, **flags)
        return stub.DeleteHmcUser(request, timeout=arguments.timeout).outcome
    request = DeleteBatchNodeUserRequest(
        pool_id=arguments.pool, node_id=arguments.node, user_name=arguments.user, **flags
    )
    return stub.DeleteBatchNodeUser(request, timeout=arguments.timeout).outcome


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Deletes one user by the gRPC service useradmin.")
    parser.add_argument("--address", default="localhost:50051", metavar="HOST:PORT")
    parser.add_argument("--plaintext", action="store_true", help="connect without TLS and without credentials")
    parser.add_argument("--ca", type=Path, default=Path("ca.pem"), help="the authority of the server's certificate")
    parser.add_argument("--cert", type=Path, help="a client certificate")
    parser.add_argument("--key", type=Path, help="its key")
    parser.add_argument("--token", type=Path, help="a file with a bearer token")
    # gRPC's C core sends this timeout as 30 seconds, because it rounds up to 100 milliseconds. The server responds 100
    # milliseconds before that, which is in time.
    parser.add_argument("--timeout", type=float, default=29.95, metavar="SECONDS")
    parser.add_argument("--allow-missing", action="store_true", help="an absent user is a success")
    parser.add_argument("--validate-only", action="store_true", help="check the request without deleting the user")
    systems = parser.add_subparsers(dest="system", required=True)
    batch = systems.add_parser("batch")
    batch.add_argument("pool")
    batch.add_argument("node")
    batch.add_argument("user")
    systems.add_parser("hmc").add_argument("user")
    options = parser.parse_args(arguments)
    if (options.cert is None) != (options.key is None):
        parser.error("--cert and --key belong together")
    if options.plaintext and (options.cert or options.token):
        parser.error("--plaintext excludes --cert and --token")
    return options


def open_channel(options: argparse.Namespace) -> grpc.Channel:
    if options.plaintext:
        return connect_plaintext(options.address)
    return connect(options.address, options.ca, cert=options.cert, key=options.key, token=options.token)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        with open_channel(options) as channel:
            outcome = delete(UserAdminStub(channel), options)
    except grpc.RpcError as error:
        print(Failure(error), file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(DeleteOutcome.Name(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
