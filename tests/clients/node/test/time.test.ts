// Deadlines, and what the library repeats by itself.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { ErrorReason } from "../gen/useradmin/v1/error_reason.js";
import { DeleteOutcome } from "../gen/useradmin/v1/user_admin.js";
import type { Failure } from "../src/failure.js";
import { byCertificate, byToken, callsUpTo, connect, deleteBatchNodeUser, failureOf, ofToken } from "./sandbox.js";

const client = connect(byCertificate);
const limited = connect(byToken);
after(() => [client, limited].forEach((each) => each.close()));

async function atTheDeadline(): Promise<Failure> {
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "answer-nothing" }, 1));
  assert.equal(failure.code, status.DEADLINE_EXCEEDED);
  return failure;
}

test("at the deadline the server tells that the outcome is unknown", async () => {
  const unknown = ErrorReason.ERROR_REASON_OUTCOME_UNKNOWN;
  // The server answers 100 ms before the deadline. On a machine too busy to take that answer in time the library ends
  // the call, without details; on one busier still, the server sends nothing. One of a few calls must do better.
  let failure = await atTheDeadline();
  for (let tries = 1; tries < 5 && failure.reason !== unknown; tries++) failure = await atTheDeadline();
  assert.equal(failure.reason, unknown);
  assert.equal(failure.detail(ErrorInfo)?.metadata["outcome"], "unknown");
  assert.deepEqual(failure.detail(RetryInfo)?.retryDelay, { seconds: 1, nanos: 0 });
  assert.ok(failure.mayHaveDeleted);
});

test("what the server has tried already the library does not repeat", async () => {
  const clientRequestId = randomUUID();
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "answer-ServerBusy", clientRequestId }));
  assert.equal(failure.code, status.UNAVAILABLE, "a code that the retry policy lists");
  assert.equal(failure.detail(ErrorInfo)?.metadata["attempts"], "3", "DELETEs of the server");

  // A call that comes later; by then the log would tell of a repetition too.
  const later = randomUUID();
  await deleteBatchNodeUser(client, { userName: "carol", validateOnly: true, clientRequestId: later });
  const own = (await callsUpTo(later)).filter((line) => line.client_request_id === clientRequestId);
  assert.deepEqual(own.map(({ reason }) => reason), ["ERROR_REASON_UPSTREAM_UNAVAILABLE"]);
});

test("what nobody has tried yet the library repeats, when it is told to", async () => {
  // The token has 60 deletions a minute, and gets a new one each second. The client never sees that they are used up.
  for (let count = 0; count < 200; count++) {
    const clientRequestId = randomUUID();
    const request = { userName: "nobody", allowMissing: true, clientRequestId };
    const { response } = await deleteBatchNodeUser(limited, request);
    assert.equal(response.outcome, DeleteOutcome.DELETE_OUTCOME_ALREADY_ABSENT);

    const calls = (await callsUpTo(clientRequestId)).filter(({ caller }) => caller === ofToken);
    const reasons = calls.map(({ reason }) => reason);
    const own = reasons.slice(reasons.lastIndexOf("", -2) + 1);
    if (own.length === 1) continue;
    assert.deepEqual(own, ["ERROR_REASON_DELETE_QUOTA_EXCEEDED", ""]);
    return;
  }
  assert.fail("the deletions were never used up");
});
