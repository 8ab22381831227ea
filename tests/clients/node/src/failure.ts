// An error of a call, with its details by type.

import { status, type ServiceError } from "@grpc/grpc-js";
import type { Any } from "../gen/google/protobuf/any.js";
import { ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";
import { ErrorReason, errorReasonFromJSON } from "../gen/useradmin/v1/error_reason.js";

/** The part used here of the code that ts-proto generates for a message. */
interface MessageType<T> {
  readonly $type: string;
  decode(input: Uint8Array): T;
}

export class Failure extends Error {
  readonly code: status;
  /** ID of the call, assigned by the server. Operators need it to find the call in their logs. */
  readonly requestId: string;
  readonly #details: Any[];

  constructor(error: ServiceError) {
    super(error.details, { cause: error });
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    this.#details = bytes instanceof Buffer ? Status.decode(bytes).details : [];
    this.code = error.code;
    this.requestId = String(error.metadata.get("x-request-id")[0] ?? "");
  }

  /** The detail of this type, if the error has it; each is there at most once. */
  detail<T>(type: MessageType<T>): T | undefined {
    const found = this.#details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/${type.$type}`);
    return found && type.decode(found.value);
  }

  /** UNSPECIFIED if not set by this service, UNRECOGNIZED if newer than this program; in both cases, use the code. */
  get reason(): ErrorReason {
    const info = this.detail(ErrorInfo);
    if (info?.domain !== "useradmin.v1.UserAdmin") return ErrorReason.ERROR_REASON_UNSPECIFIED;
    return errorReasonFromJSON(info.reason);
  }

  /**
   * Whether the user may have been deleted, that is, whether the outcome is unknown. An error without ErrorInfo comes
   * from the library, which does not know the outcome.
   */
  get mayHaveDeleted(): boolean {
    const info = this.detail(ErrorInfo);
    return !info || info.metadata["outcome"] === "unknown";
  }

  get nextStep(): string {
    const repeat = this.mayHaveDeleted ? "repeat it with --allow-missing" : "repeat it";
    const delay = this.detail(RetryInfo)?.retryDelay;
    if (delay) return `${repeat} after ${delay.seconds + delay.nanos / 1e9} s`;
    if (!this.detail(ErrorInfo)) return `${repeat} when the server can be reached`;
    return "do not repeat it before the cause is removed";
  }

  override toString(): string {
    const { code, message, reason, requestId, nextStep } = this;
    return `${status[code]}: ${message} (${ErrorReason[reason]}, request ${requestId}); ${nextStep}`;
  }
}
