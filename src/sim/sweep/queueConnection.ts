/** What both ends of a queue share: its name, its connection, its errors. BullMQ is loaded here, only when wanted. */
import type { JobsOptions } from "bullmq";
import type { Redis } from "ioredis";
import { NetPopcornError } from "../../errors.ts";
import type { SimPoint } from "../types.ts";

/** Data of a job; its id is the key of the task. */
export type QueueJob = { readonly point: SimPoint };

export type QueueAddress = {
  readonly url: string;
  /** "host:port", without what may be secret: for messages. */
  readonly shown: string;
};

const CONNECT_MS_MAX = 5_000;
const RECONNECT_MS_MAX = 2_000;
/** How long results and failures stay for whoever asks for them, such as a sweep that goes on. */
const KEPT_S = 24 * 3600;
/** Runs of a simulation that kills its thread. A worker that is lost does not count: that is LOST_MAX. */
const ATTEMPTS = 3;

export const JOB_OPTIONS: JobsOptions = {
  attempts: ATTEMPTS,
  backoff: { type: "exponential", delay: 200 },
  removeOnComplete: { age: KEPT_S },
  removeOnFail: { age: KEPT_S },
};

/** Builds that differ never meet: a worker only takes points for which its own build is the right one. */
export function queueName(fingerprint: string): string {
  return `netpopcorn-sim-${fingerprint}`;
}

/** @throws NetPopcornError ERR_QUEUE_ADDRESS. */
export function parseQueueAddress(text: string): QueueAddress {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {}
  if (url === undefined || !/^rediss?:$/.test(url.protocol) || url.hostname === "") {
    throw new NetPopcornError(
      "ERR_QUEUE_ADDRESS",
      `--queue must be redis://HOST[:PORT][/DATABASE] or rediss://…, not ${JSON.stringify(text)}`,
    );
  }
  return { url: text, shown: `${url.hostname}:${url.port === "" ? "6379" : url.port}` };
}

export type QueueLibrary = Pick<typeof import("bullmq"), "Queue" | "QueueEvents" | "Worker"> &
  Pick<typeof import("ioredis"), "Redis">;

/** The queue's library; optional, because few need it. @throws NetPopcornError ERR_QUEUE_LIBRARY. */
export async function loadQueueLibrary(): Promise<QueueLibrary> {
  try {
    const [bullmq, ioredis] = await Promise.all([import("bullmq"), import("ioredis")]);
    const { Queue, QueueEvents, Worker } = bullmq;
    return { Queue, QueueEvents, Worker, Redis: ioredis.Redis };
  } catch (cause) {
    throw new NetPopcornError("ERR_QUEUE_LIBRARY", "--queue needs two more packages; run: npm install bullmq ioredis", {
      cause,
    });
  }
}

/**
 * Fails when nothing answers; once it has answered, a connection that breaks is made again and again.
 * @param onError called with every error of the connection afterwards.
 * @throws NetPopcornError ERR_QUEUE_UNREACHABLE.
 */
export async function connectQueue(
  RedisClient: typeof Redis,
  address: QueueAddress,
  onError: (error: Error) => void,
): Promise<Redis> {
  let isReached = false;
  let lastError: Error | undefined;
  const options = {
    lazyConnect: true,
    connectTimeout: CONNECT_MS_MAX,
    // What BullMQ asks for: its commands wait for the connection to come back.
    maxRetriesPerRequest: null,
    retryStrategy: (times: number) => (isReached ? Math.min(RECONNECT_MS_MAX, 50 * 2 ** times) : null),
  };
  const redis = new RedisClient(address.url, options);
  redis.on("error", (error: Error) => {
    lastError = error;
    if (isReached) onError(error);
  });
  try {
    await redis.connect();
    await redis.ping();
  } catch (error) {
    redis.disconnect();
    throw unreachable(address, lastError ?? (error as Error));
  }
  isReached = true;
  return redis;
}

function unreachable({ shown }: QueueAddress, cause: Error): NetPopcornError {
  const reason = "code" in cause && typeof cause.code === "string" ? cause.code : cause.message;
  return new NetPopcornError(
    "ERR_QUEUE_UNREACHABLE",
    `no Redis or Valkey serves us at ${shown} (${reason}); start one there or name another with --queue`,
    { cause },
  );
}
