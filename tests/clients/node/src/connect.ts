// A connection: who the server must be, who calls, and what the library repeats by itself.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { CallCredentials, credentials, Metadata, type ChannelCredentials, type ClientOptions } from "@grpc/grpc-js";

/** Files that say who is who: the server's authority, and the caller's certificate with its key, or a token. */
export interface Files {
  ca: string;
  cert?: string | undefined;
  key?: string | undefined;
  token?: string | undefined;
}

/** The certificate is that of the connection: connect anew when it has been renewed. */
export function credentialsOf({ ca, cert, key, token }: Files): ChannelCredentials {
  const pem = (file: string | undefined) => (file ? readFileSync(file) : null);
  const tls = credentials.createSsl(pem(ca), pem(key), pem(cert));
  return token ? credentials.combineChannelCredentials(tls, bearer(token)) : tls;
}

/** Sends the token in the file with each call; it is read each time, because tokens live for minutes. */
function bearer(file: string): CallCredentials {
  return credentials.createFromMetadataGenerator((_call, done) => {
    readFile(file, "utf8").then((token) => {
      const metadata = new Metadata();
      metadata.set("authorization", `Bearer ${token.trim()}`);
      done(null, metadata);
    }, done);
  });
}

// Where the server has tried already, it ends these retries; where nobody has tried, it sets their delay
// (grpc-retry-pushback-ms). The backoff is for connections that cannot be made.
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
  // Without it, a server that vanishes without a word is noticed only after many minutes.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
};
