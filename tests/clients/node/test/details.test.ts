// Every kind of error detail, each on a call that fails with it.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { status } from "@grpc/grpc-js";
import * as rpc from "../gen/google/rpc/error_details.js";
import { BatchError, HmcError } from "../gen/useradmin/v1/error_details.js";
import { ErrorReason } from "../gen/useradmin/v1/error_reason.js";
import { byCertificate, connect, deleteBatchNodeUser, deleteHmcUser, failureOf } from "./sandbox.js";

const client = connect(byCertificate);
after(() => client.close());

test("ErrorInfo, RequestInfo, ResourceInfo and BatchError: there is no such user", async () => {
  const clientRequestId = "9c4d50ee-2d56-4cd3-8152-34347dc9f2b1";
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "nobody", clientRequestId }));
  assert.equal(failure.code, status.NOT_FOUND);
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_USER_NOT_FOUND);

  const batch = failure.detail(BatchError);
  assert.ok(batch?.requestId);
  assert.deepEqual(batch, {
    code: "NodeUserNotFound",
    message: { lang: "en-US", value: "The specified node user does not exist." },
    values: [],
    httpStatus: 404,
    requestId: batch.requestId,
    clientRequestId,
  });
  assert.deepEqual(failure.detail(rpc.ErrorInfo), {
    reason: "ERROR_REASON_USER_NOT_FOUND",
    domain: "useradmin.v1.UserAdmin",
    metadata: {
      account: "sandbox",
      attempts: "1",
      client_request_id: clientRequestId,
      node_id: "node-idle",
      outcome: "not_deleted",
      pool_id: "pool-1",
      upstream: "azure_batch",
      upstream_code: "NodeUserNotFound",
      upstream_http_status: "404",
      upstream_request_id: batch.requestId,
      user_name: "nobody",
    },
  });
  assert.ok(failure.requestId);
  assert.deepEqual(failure.detail(rpc.RequestInfo), { requestId: failure.requestId, servingData: "" });
  assert.deepEqual(failure.detail(rpc.ResourceInfo), {
    resourceType: "useradmin/BatchNodeUser",
    resourceName: "batchAccounts/sandbox/pools/pool-1/nodes/node-idle/users/nobody",
    owner: "",
    description: "the user does not exist, or is not visible to this service",
  });
});

test("values of BatchError: a header is refused", async () => {
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "answer-InvalidHeaderValue" }));
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_UPSTREAM_REJECTED_REQUEST);
  assert.deepEqual(failure.detail(BatchError)?.values.map(({ key }) => key), ["HeaderName", "HeaderValue"]);
});

test("BadRequest: all fields that break their rule", async () => {
  const failure = await failureOf(deleteBatchNodeUser(client, { poolId: "", nodeId: "..", userName: "alice" }));
  assert.equal(failure.code, status.INVALID_ARGUMENT);
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_INVALID_REQUEST);
  const violations = failure.detail(rpc.BadRequest)?.fieldViolations ?? [];
  assert.deepEqual(violations.map(({ field }) => field), ["pool_id", "node_id"]);
  for (const { description } of violations) assert.match(description, /^must be /);
});

test("PreconditionFailure and HmcError: a template is in use", async () => {
  const failure = await failureOf(deleteHmcUser(client, "template-in-use"));
  assert.equal(failure.code, status.FAILED_PRECONDITION);
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_TEMPLATE_USER_IN_USE);
  assert.deepEqual(failure.detail(rpc.PreconditionFailure)?.violations, [
    {
      type: "TEMPLATE_REFERENCES",
      subject: `hmcs/sandbox/users/${failure.detail(rpc.ErrorInfo)?.metadata["user_id"]}`,
      description: "remove the users and user patterns that refer to the template first",
    },
  ]);
  const hmc = failure.detail(HmcError);
  assert.ok(hmc?.message);
  assert.deepEqual(hmc, { httpStatus: 409, reason: 317, message: hmc.message });
  assert.equal(failure.detail(BatchError), undefined, "the answer is the HMC's");
});

test("QuotaFailure and RetryInfo: Azure Batch gets too many requests", async () => {
  // Too little time for the `Retry-After` of Azure Batch, so the server passes it on to the caller.
  const failure = await failureOf(deleteBatchNodeUser(client, { userName: "answer-TooManyRequests" }, 1.9));
  assert.equal(failure.code, status.RESOURCE_EXHAUSTED);
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_UPSTREAM_THROTTLED);
  const violations = failure.detail(rpc.QuotaFailure)?.violations ?? [];
  assert.deepEqual(violations.map(({ subject }) => subject), ["batchAccounts/sandbox"]);
  assert.deepEqual(failure.detail(rpc.RetryInfo)?.retryDelay, { seconds: 2, nanos: 0 });
});
