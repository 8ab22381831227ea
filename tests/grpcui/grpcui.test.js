"use strict";
// Debugging with grpcui, as docs/debugging.md describes it: forms are filled, and what is shown is read. run.sh starts
// what is needed and says where it is.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { after, afterEach, before, test } = require("node:test");
const { openBrowser, Page } = require("./page.js");

const { CHROMIUM, PROFILE, PICTURES, TOKEN_FILE } = process.env;
const PAGES = {
  plain: process.env.PAGE_PLAIN,
  protoset: process.env.PAGE_PROTOSET,
  certificate: process.env.PAGE_CERTIFICATE,
  token: process.env.PAGE_TOKEN,
  typed: process.env.PAGE_TYPED,
  styled: process.env.PAGE_STYLED,
};
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

let browser;
let page;

before(async () => {
  browser = await openBrowser(CHROMIUM, PROFILE);
});

after(async () => {
  await browser?.close();
});

afterEach(async (context) => {
  if (!page) return;
  await page.picture(path.join(PICTURES, `${context.name.replaceAll(/[^a-z0-9]+/gi, "-")}.png`));
  const { faults } = page;
  await page.tab.close();
  page = undefined;
  assert.deepEqual(faults, []);
});

async function open(where, method) {
  page = await Page.open(browser, PAGES[where], method);
}

/** Every error has these two; the trailer and the detail tell the same ID. */
function assertReason(answer, reason) {
  assert.equal(answer.details["google.rpc.ErrorInfo"].reason, `ERROR_REASON_${reason}`);
  const { request_id: id } = answer.details["google.rpc.RequestInfo"];
  assert.match(id, UUID);
  assert.equal(answer.trailers["x-request-id"], id);
}

function assertTemplateInUse(answer) {
  assert.equal(answer.status, "FailedPrecondition (9)");
  assert.equal(answer.message, "users or user patterns refer to this template user");
  assertReason(answer, "TEMPLATE_USER_IN_USE");
  assert.equal(answer.details["google.rpc.ErrorInfo"].metadata.outcome, "not_deleted");
  const [violation] = answer.details["google.rpc.PreconditionFailure"].violations;
  assert.equal(violation.type, "TEMPLATE_REFERENCES");
  assert.match(violation.description, /^remove the users and user patterns/);
  const { http_status: status, reason, message } = answer.details["useradmin.v1.HmcError"];
  assert.deepEqual([status, reason], [409, 317]);
  assert.match(message, /refer to this template user/);
}

async function fillBatchUser(pool, node, user) {
  await page.type("pool_id", pool);
  await page.type("node_id", node);
  await page.type("user_name", user);
}

test("an error of the HMC", async () => {
  await open("plain", "DeleteHmcUser");
  await page.type("user_name", "template-in-use");
  assertTemplateInUse(await page.invoke());
});

test("an error of the HMC without reflection", async () => {
  await open("protoset", "DeleteHmcUser");
  await page.type("user_name", "template-in-use");
  assertTemplateInUse(await page.invoke());
});

test("an error of Azure Batch", async () => {
  await open("plain", "DeleteBatchNodeUser");
  await fillBatchUser("pool-1", "node-rebooting", "bob");
  const answer = await page.invoke();
  assert.equal(answer.status, "FailedPrecondition (9)");
  assertReason(answer, "NODE_NOT_READY");
  assert.equal(answer.details["google.rpc.PreconditionFailure"].violations[0].type, "NODE_STATE");
  const { code, http_status: status, message } = answer.details["useradmin.v1.BatchError"];
  assert.deepEqual([code, status], ["NodeBeingRebooted", 409]);
  assert.equal(message.value, "The specified node is being rebooted.");
});

test("a success of Azure Batch", async () => {
  await open("plain", "DeleteBatchNodeUser");
  await fillBatchUser("pool-1", "node-running", "carol");
  const answer = await page.invoke();
  assert.equal(answer.status, "");
  assert.equal(answer.data[0].outcome, "DELETE_OUTCOME_DELETED");
  assert.equal(answer.data[0].attempts, 1);
  assert.match(answer.trailers["x-request-id"], UUID);
});

test("a success of the HMC by the other field of the oneof", async () => {
  await open("plain", "DeleteHmcUser");
  await page.type("user_name", "somebody else");
  await page.type("user_id", "000ca401-4a7a-11e4-91ee-1c6f65065a91");
  await page.setTrue("validate_only");
  const { request, grpcurl } = await page.raw();
  assert.deepEqual(JSON.parse(request), { userId: "000ca401-4a7a-11e4-91ee-1c6f65065a91", validateOnly: true });
  assert.match(grpcurl, /^grpcurl -plaintext .*useradmin\.v1\.UserAdmin\.DeleteHmcUser$/s);
  await page.backToForm();
  const [data] = (await page.invoke()).data;
  assert.equal(data.outcome, "DELETE_OUTCOME_VALIDATED");
  assert.equal(data.user_name, "carol");
});

test("every field that breaks its rule", async () => {
  await open("plain", "DeleteBatchNodeUser");
  await fillBatchUser("", "..", "alice");
  const answer = await page.invoke();
  assert.equal(answer.status, "InvalidArgument (3)");
  assertReason(answer, "INVALID_REQUEST");
  const fields = answer.details["google.rpc.BadRequest"].field_violations.map(({ field }) => field);
  assert.deepEqual(fields, ["pool_id", "node_id"]);
});

test("a deadline", async () => {
  await open("plain", "DeleteBatchNodeUser");
  await fillBatchUser("pool-1", "node-idle", "answer-nothing");
  await page.timeout(1);
  const answer = await page.invoke();
  assert.equal(answer.status, "DeadlineExceeded (4)");
  assertReason(answer, "OUTCOME_UNKNOWN");
  assert.equal(answer.details["google.rpc.RetryInfo"].retry_delay, "1s");
});

test("all of an error at once, with the style", async () => {
  await open("styled", "DeleteBatchNodeUser");
  await fillBatchUser("pool-1", "node-rebooting", "bob");
  const answer = await page.invoke();
  assertReason(answer, "NODE_NOT_READY");
  assert.equal(Object.keys(answer.details).length, 4);
  assert.deepEqual(await page.hidden("#grpc-response-error-details textarea"), []);
});

test("the comments of the API", async () => {
  await open("plain", "DeleteHmcUser");
  await page.tab.locator("#grpc-descriptions-toggle").click();
  assert.match(await page.visible("#grpc-service-description"), /Deletes user accounts on Azure Batch compute nodes/);
  assert.match(await page.visible("#grpc-method-description"), /Deletes a user from one Hardware Management Console/);
  assert.match(await page.name("user_name").getAttribute("title"), /no character is a wildcard/);
});

test("a client certificate", async () => {
  await open("certificate", "DeleteHmcUser");
  await page.type("user_name", "bob");
  assert.equal((await page.invoke()).data[0].outcome, "DELETE_OUTCOME_DELETED");
});

test("a token on the command line", async () => {
  await open("token", "DeleteHmcUser");
  await page.type("user_name", "carol");
  assert.equal((await page.invoke()).data[0].outcome, "DELETE_OUTCOME_DELETED");
});

test("a token that is typed in after a refusal", async () => {
  await open("typed", "DeleteHmcUser");
  await page.type("user_name", "A.B");
  const refused = await page.invoke();
  assert.equal(refused.status, "Unauthenticated (16)");
  assertReason(refused, "CALLER_UNAUTHENTICATED");
  assert.equal(refused.details["google.rpc.ErrorInfo"].metadata.cause, "nothing_shown");
  await page.backToForm();
  await page.metadata("authorization", `Bearer ${fs.readFileSync(TOKEN_FILE, "utf8")}`);
  assert.equal((await page.invoke()).data[0].outcome, "DELETE_OUTCOME_DELETED");
});
