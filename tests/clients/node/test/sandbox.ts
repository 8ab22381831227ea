// Access of the tests to the sandbox and its log.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type ChannelCredentials, type ClientOptions } from "@grpc/grpc-js";
import { DeleteBatchNodeUserRequest, DeleteHmcUserRequest, UserAdminClient } from "../gen/useradmin/v1/user_admin.js";
import { call, type Success } from "../src/call.js";
import { credentialsOf, options } from "../src/connect.js";
import { Failure } from "../src/failure.js";

function setting(name: string): string {
  const value = process.env[name];
  assert.ok(value, `${name} is not set; run.sh tells what is needed`);
  return value;
}

const file = (name: string) => join(setting("USERADMIN_CREDENTIALS"), name);

export const address = setting("USERADMIN_ADDRESS");
/** Address of another sandbox, without TLS and credentials. */
export const plaintextAddress = setting("USERADMIN_PLAINTEXT_ADDRESS");
export const ca = file("ca.pem");
export const certificate = { ca, cert: file("client.pem"), key: file("client.key") };
export const token = { ca, token: file("token") };
export const byCertificate = credentialsOf(certificate);
export const byToken = credentialsOf(token);

export function connect(credentials: ChannelCredentials, more: ClientOptions = options): UserAdminClient {
  // Node warns if the server name for TLS is an IP address, as in the sandbox; a host name needs no such option.
  return new UserAdminClient(address, credentials, { ...more, "grpc.ssl_target_name_override": "localhost" });
}

export function deleteBatchNodeUser(
  client: UserAdminClient,
  request: Partial<DeleteBatchNodeUserRequest>,
  seconds = 10,
) {
  const complete = DeleteBatchNodeUserRequest.create({ poolId: "pool-1", nodeId: "node-idle", ...request });
  return call(client.deleteBatchNodeUser.bind(client), complete, seconds);
}

export function deleteHmcUser(client: UserAdminClient, userName: string, validateOnly = false) {
  const request = DeleteHmcUserRequest.create({ user: { $case: "userName", value: userName }, validateOnly });
  return call(client.deleteHmcUser.bind(client), request, 10);
}

export async function failureOf(running: Promise<Success<unknown>>): Promise<Failure> {
  const failure = await running.then(() => assert.fail("the call succeeded"), (error: unknown) => error);
  assert.ok(failure instanceof Failure, String(failure));
  return failure;
}

export interface Line {
  message: string;
  code: string;
  reason: string;
  outcome: string;
  request_id: string;
}

async function logged(): Promise<Line[]> {
  // The output also contains the guide of the sandbox, and its last line may be incomplete.
  const text = (await readFile(setting("USERADMIN_LOG"), "utf8")).split("\n").slice(0, -1);
  const lines = text.filter((line) => line.startsWith("{")).map((line): Line => JSON.parse(line));
  return lines.filter(({ message }) => message === "call ended");
}

/**
 * Returns the log lines of all calls so far. The server logs calls in the order of their responses, but with a delay.
 * Therefore this function makes a call that deletes nothing, waits for its line, and returns the lines before it.
 */
export async function calls(): Promise<Line[]> {
  const client = connect(byCertificate);
  const { requestId } = await deleteHmcUser(client, "carol", true).finally(() => client.close());
  for (let tries = 0; tries < 1000; tries++) {
    const lines = await logged();
    const last = lines.findIndex((line) => line.request_id === requestId);
    if (last >= 0) return lines.slice(0, last).filter(({ outcome }) => outcome !== "validated");
    await pause(10);
  }
  return assert.fail(`no call ${requestId} in the log`);
}
