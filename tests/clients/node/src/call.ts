// Calls as promises, always with a deadline.

import { Metadata, type CallOptions, type ClientUnaryCall, type ServiceError } from "@grpc/grpc-js";
import { Failure } from "./failure.js";

type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

export interface Success<Response> {
  response: Response;
  /** ID of the call, assigned by the server. Operators need it to find the call in their logs. */
  requestId: string;
}

/** Rejects with a `Failure`. The server applies a deadline of 30 seconds if there is none, and of 60 at most. */
export function call<Request, Response>(
  method: Method<Request, Response>,
  request: Request,
  seconds: number,
): Promise<Success<Response>> {
  const deadline = Date.now() + seconds * 1000;
  return new Promise((resolve, reject) => {
    let response: Response;
    const running = method(request, new Metadata(), { deadline }, (error, answer) => {
      if (error) reject(new Failure(error));
      else response = answer;
    });
    // The trailers arrive last; after an error, this call to resolve has no effect.
    running.on("status", ({ metadata }) => resolve({ response, requestId: String(metadata.get("x-request-id")[0]) }));
  });
}
