// Deadlines, and the retries of the library.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { ErrorReason } from "../gen/useradmin/v1/error_reason.js";
import { DeleteOutcome } from "../gen/useradmin/v1/user_admin.js";
import type { Failure } from "../src/failure.js";
import { byCertificate, calls, connect, deleteBatchNodeUser, failureOf } from "./sandbox.js";

const client = connect(byCertificate);
after(() => client.close());

async function atTheDeadline(): Promise<Failure> {
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "answer-nothing" }, 1));
  assert.equal(failure.code, status.DEADLINE_EXCEEDED);
  return failure;
}

test("at the deadline the server tells that the outcome is unknown", async () => {
  const unknown = ErrorReason.ERROR_REASON_OUTCOME_UNKNOWN;
  // The server responds 100 ms before the deadline. On a busy machine, the library may end the call before it receives
  // that response, without details, or the server may send none. At least one of several calls must have details.
  let failure = await atTheDeadline();
  for (let tries = 1; tries < 5 && failure.reason !== unknown; tries++) failure = await atTheDeadline();
  assert.equal(failure.reason, unknown);
  assert.equal(failure.detail(ErrorInfo)?.metadata["outcome"], "unknown");
  assert.deepEqual(failure.detail(RetryInfo)?.retryDelay, { seconds: 1, nanos: 0 });
  assert.ok(failure.mayHaveDeleted);
});

test("the library does not retry calls that the server has retried", async () => {
  const before = (await calls()).length;
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "answer-ServerBusy" }));
  assert.equal(failure.code, status.UNAVAILABLE, "a code that the retry policy lists");
  assert.equal(failure.detail(ErrorInfo)?.metadata["attempts"], "3", "DELETEs of the server");
  const reasons = (await calls()).slice(before).map(({ reason }) => reason);
  assert.deepEqual(reasons, ["ERROR_REASON_UPSTREAM_UNAVAILABLE"]);
});

test("the library retries calls for which the server sent nothing", async () => {
  const open = "ERROR_REASON_CIRCUIT_OPEN";
  // Errors of the upstream open its circuit breaker, so no request is sent for 5 seconds.
  for (let count = 0; count < 100; count++) {
    const before = (await calls()).length;
    await failureOf(deleteBatchNodeUser(client, { userName: "answer-InternalError" }, 20));
    if ((await calls())[before]?.reason === open) break;
  }
  // The library retried the call after the pause, and the circuit breaker opened again.
  const before = (await calls()).length;
  const { response } = await deleteBatchNodeUser(client, { userName: "nobody", allowMissing: true }, 20);
  assert.equal(response.outcome, DeleteOutcome.DELETE_OUTCOME_ALREADY_ABSENT);
  assert.deepEqual((await calls()).slice(before).map(({ reason }) => reason), [open, ""]);
});
