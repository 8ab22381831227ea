// What the tests share: the sandbox that run.sh was given, and its log.

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
export const ca = file("ca.pem");
export const certificate = { ca, cert: file("client.pem"), key: file("client.key") };
export const token = { ca, token: file("token") };
export const byCertificate = credentialsOf(certificate);
export const byToken = credentialsOf(token);

export function connect(credentials: ChannelCredentials, more: ClientOptions = options): UserAdminClient {
  // Node warns where the name for TLS is an IP address, as that of the sandbox; a host name needs no such option.
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

export function deleteHmcUser(client: UserAdminClient, userName: string) {
  const request = DeleteHmcUserRequest.create({ user: { $case: "userName", value: userName } });
  return call(client.deleteHmcUser.bind(client), request, 10);
}

export async function failureOf(running: Promise<Success<unknown>>): Promise<Failure> {
  const failure = await running.then(() => assert.fail("the call succeeded"), (error: unknown) => error);
  assert.ok(failure instanceof Failure, String(failure));
  return failure;
}

/** The caller of the token, as the log names it. */
export const ofToken = "https://issuer.sandbox.example#client";

export interface Line {
  message: string;
  caller: string;
  code: string;
  reason: string;
  client_request_id: string;
}

async function log(): Promise<Line[]> {
  const lines = (await readFile(setting("USERADMIN_LOG"), "utf8")).split("\n").slice(0, -1);
  return lines.filter((line) => line.startsWith("{")).map((line): Line => JSON.parse(line));
}

/** What the log says of all calls up to the successful one with this ID. */
export async function callsUpTo(clientRequestId: string): Promise<Line[]> {
  for (let tries = 0; tries < 200; tries++) {
    const calls = (await log()).filter(({ message }) => message === "call");
    const last = calls.findIndex((line) => line.client_request_id === clientRequestId && line.code === "Ok");
    if (last >= 0) return calls.slice(0, last + 1);
    await pause(25);
  }
  return assert.fail(`no call with client_request_id ${clientRequestId} in the log`);
}
