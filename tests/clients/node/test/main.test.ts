// Tests of the program that deletes one user.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { address, certificate, plaintextAddress, token } from "./sandbox.js";

const program = fileURLToPath(new URL("../src/main.js", import.meta.url));
const server = `--address=${address.replace("127.0.0.1", "localhost")}`;
const plaintextServer = `--address=${plaintextAddress} --plaintext`;

for (const [shown, line, code, says] of [
  [certificate, "batch pool-1 node-running carol", 0, "DELETE_OUTCOME_DELETED"],
  [token, "--allow-missing hmc nobody", 0, "DELETE_OUTCOME_ALREADY_ABSENT"],
  [certificate, "--validate-only hmc carol", 0, "DELETE_OUTCOME_VALIDATED"],
  [{}, `${plaintextServer} --validate-only batch pool-1 node-idle alice`, 0, "DELETE_OUTCOME_VALIDATED"],
  [{}, `${plaintextServer} hmc alice`, 0, "DELETE_OUTCOME_DELETED"],
  [token, `${plaintextServer} hmc alice`, 1, "--plaintext excludes"],
  [certificate, "hmc nobody", 1, "do not repeat it before the cause is removed"],
  [certificate, "hmc busy", 1, "repeat it after 2 s"],
  [certificate, "hmc hmc-defect", 1, "repeat it with --allow-missing after"],
  [certificate, "hmc", 1, "say whom to delete"],
] as const) {
  test(`${line}: ${says}`, () => {
    const files = Object.entries(shown).map(([option, file]) => `--${option}=${file}`);
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, server, ...files, ...line.split(" ")], {
      encoding: "utf8",
    });
    assert.equal(status, code, stderr);
    assert.match(code === 0 ? stdout : stderr, new RegExp(says));
  });
}
