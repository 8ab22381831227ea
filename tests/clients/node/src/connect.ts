// Connections: the identity of the server, the credentials of the caller, and the retries of the library.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { CallCredentials, credentials, Metadata, type ChannelCredentials, type ClientOptions } from "@grpc/grpc-js";

/** Files with the authority of the server, and with the certificate and key, or the token, of the caller. */
export interface Files {
  ca: string;
  cert?: string | undefined;
  key?: string | undefined;
  token?: string | undefined;
}

/** The certificate belongs to the connection: create a new client when it has been renewed. */
export function credentialsOf({ ca, cert, key, token }: Files): ChannelCredentials {
  const pem = (file: string | undefined) => (file ? readFileSync(file) : null);
  const tls = credentials.createSsl(pem(ca), pem(key), pem(cert));
  return token ? credentials.combineChannelCredentials(tls, bearer(token)) : tls;
}

/** Sends the token in the file with each call. The file is read each time, because tokens expire after minutes. */
function bearer(file: string): CallCredentials {
  return credentials.createFromMetadataGenerator((_call, done) => {
    readFile(file, "utf8").then((token) => {
      const metadata = new Metadata();
      metadata.set("authorization", `Bearer ${token.trim()}`);
      done(null, metadata);
    }, done);
  });
}

// The trailer grpc-retry-pushback-ms controls these retries: it contains the delay if the server refused the
// call before the first DELETE, for the reasons in docs/clients.md. Otherwise it is -1, which stops them. The backoff
// applies if the connection could not be established or was lost.
const serviceConfig = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: "useradmin.v1.UserAdmin" }],
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: "0.2s",
        maxBackoff: "5s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
};

export const options: ClientOptions = {
  "grpc.service_config": JSON.stringify(serviceConfig),
  // Without keepalive, an unreachable server is detected only after many minutes.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
};
