// Callers with a certificate, a token or no credentials, and the servers that the client trusts.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { credentials, status } from "@grpc/grpc-js";
import { ErrorInfo } from "../gen/google/rpc/error_details.js";
import { HealthClient, HealthCheckResponse_ServingStatus as Serving } from "../gen/health/v1/health.js";
import { ErrorReason } from "../gen/useradmin/v1/error_reason.js";
import { DeleteOutcome } from "../gen/useradmin/v1/user_admin.js";
import { call } from "../src/call.js";
import { credentialsOf } from "../src/connect.js";
import { byCertificate, byToken, ca, connect, deleteBatchNodeUser, deleteHmcUser, failureOf } from "./sandbox.js";

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

for (const [name, shown, userName] of [
  ["a client certificate", byCertificate, "alice"],
  ["a bearer token", byToken, "bob"],
] as const) {
  const client = connect(shown);
  after(() => client.close());

  test(`with ${name} a user of a node is deleted`, async () => {
    const clientRequestId = "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0";
    const { response, requestId } = await deleteBatchNodeUser(client, { userName, clientRequestId });
    const { requestId: ofAzure, validation, ...rest } = response;
    assert.equal(validation, undefined);
    assert.deepEqual(rest, { outcome: DeleteOutcome.DELETE_OUTCOME_DELETED, clientRequestId, attempts: 1 });
    assert.match(ofAzure, uuid);
    assert.match(requestId, uuid);
  });

  test(`with ${name} a user of an HMC is deleted`, async () => {
    const { response } = await deleteHmcUser(client, userName);
    const { userId, validation, ...rest } = response;
    assert.equal(validation, undefined);
    assert.deepEqual(rest, { outcome: DeleteOutcome.DELETE_OUTCOME_DELETED, userName, attempts: 1 });
    assert.match(userId, uuid);
  });
}

test("calls without credentials are unauthenticated", async () => {
  const client = connect(credentialsOf({ ca }));
  after(() => client.close());
  const failure = await failureOf(deleteHmcUser(client, "carol"));
  assert.equal(failure.code, status.UNAUTHENTICATED);
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_CALLER_UNAUTHENTICATED);
  assert.equal(failure.detail(ErrorInfo)?.metadata["cause"], "nothing_shown");
});

test("a server of another authority is not called", async () => {
  // The public authorities included in Node, which do not include that of the sandbox.
  const client = connect(credentials.createSsl());
  after(() => client.close());
  const failure = await failureOf(deleteHmcUser(client, "carol"));
  assert.equal(failure.code, status.UNAVAILABLE);
  assert.match(failure.message, /certificate/);
  assert.equal(failure.detail(ErrorInfo), undefined, "no server made this error");
  assert.equal(failure.reason, ErrorReason.ERROR_REASON_UNSPECIFIED);
  assert.ok(failure.mayHaveDeleted, "without details the outcome is unknown");
});

test("the health service answers on the same connection", async () => {
  const client = connect(byCertificate);
  after(() => client.close());
  const health = new HealthClient("", byCertificate, { channelOverride: client.getChannel() });
  for (const service of ["", "useradmin.v1.UserAdmin"]) {
    const { response } = await call(health.check.bind(health), { service }, 10);
    assert.equal(response.status, Serving.SERVING, service);
  }
});
