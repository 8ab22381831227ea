// Deletes one user by the gRPC service useradmin:
//
//   node dist/src/main.js --ca ca.pem --cert client.pem --key client.key batch POOL NODE USER
//   node dist/src/main.js --ca ca.pem --token token hmc USER
//   node dist/src/main.js --plaintext --validate-only hmc USER

import { parseArgs } from "node:util";
import { credentials } from "@grpc/grpc-js";
import {
  DeleteBatchNodeUserRequest,
  deleteOutcomeToJSON,
  DeleteHmcUserRequest,
  UserAdminClient,
} from "../gen/useradmin/v1/user_admin.js";
import { call } from "./call.js";
import { credentialsOf, options } from "./connect.js";
import { Failure } from "./failure.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    address: { type: "string", default: "localhost:50051" },
    plaintext: { type: "boolean", default: false },
    ca: { type: "string", default: "ca.pem" },
    cert: { type: "string" },
    key: { type: "string" },
    token: { type: "string" },
    timeout: { type: "string", default: "30" },
    "allow-missing": { type: "boolean", default: false },
    "validate-only": { type: "boolean", default: false },
  },
});

async function deleteUser(client: UserAdminClient) {
  const { "allow-missing": allowMissing, "validate-only": validateOnly } = values;
  const seconds = Number(values.timeout);
  const [system, ...names] = positionals;
  if (system === "hmc" && names.length === 1) {
    const [value] = names;
    const request = DeleteHmcUserRequest.create({ user: { $case: "userName", value }, allowMissing, validateOnly });
    return call(client.deleteHmcUser.bind(client), request, seconds);
  }
  if (system === "batch" && names.length === 3) {
    const [poolId, nodeId, userName] = names;
    const request = DeleteBatchNodeUserRequest.create({ poolId, nodeId, userName, allowMissing, validateOnly });
    return call(client.deleteBatchNodeUser.bind(client), request, seconds);
  }
  throw new Error("say whom to delete: batch POOL NODE USER, or hmc USER");
}

if (values.plaintext && (values.cert || values.token)) {
  console.error("--plaintext excludes --cert and --token");
  process.exit(1);
}
const identity = values.plaintext ? credentials.createInsecure() : credentialsOf(values);
const client = new UserAdminClient(values.address, identity, options);
try {
  const { response } = await deleteUser(client);
  console.log(deleteOutcomeToJSON(response.outcome));
} catch (error) {
  console.error(error instanceof Failure ? error.toString() : error);
  process.exitCode = 1;
} finally {
  client.close();
}
