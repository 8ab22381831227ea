// A call as a promise, which always has a deadline.

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
  /** The ID that the server gave to the call, for questions to its operator. */
  requestId: string;
}

/** Rejects with a `Failure`. Without a deadline the server takes 30 seconds, and never more than 60. */
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
    // The trailers come last; after an error it is too late to resolve.
    running.on("status", ({ metadata }) => resolve({ response, requestId: String(metadata.get("x-request-id")[0]) }));
  });
}
