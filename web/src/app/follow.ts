// How a job goes on, live: by its events, and by asking where these cannot be had.

import { ApiError, api, isAbort, type Job } from "./api";

/** Milliseconds between two questions while there are no events. */
const ASK = 3000;

export const isFinal = (job: Job) => ["done", "failed", "cancelled"].includes(job.state);

/** Tells every change of a job until it has ended or the signal comes; `connected` tells whether the server answers. */
export function follow(id: number, signal: AbortSignal, onJob: (job: Job) => void, connected: (is: boolean) => void, gone: (error: unknown) => void): void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    source?.close();
    clearTimeout(timer);
  };
  signal.addEventListener("abort", end);

  const take = (job: Job): boolean => {
    if (signal.aborted) return false;
    connected(true);
    onJob(job);
    return !isFinal(job);
  };
  const listen = () => {
    if (signal.aborted) return;
    source = new EventSource(`/api/v1/jobs/${id}/events`);
    source.addEventListener("status", (event) => {
      if (!take(JSON.parse((event as MessageEvent<string>).data))) end();
    });
    // Also at every regular end of a stream. The browser would come back by itself after some causes only, and tells none of them, so
    // asking is what finds out: an ended login, a job that is gone, or a server that restarts.
    source.addEventListener("error", () => {
      source?.close();
      void ask();
    });
  };
  const ask = async () => {
    try {
      if (take(await api.job(id, signal))) timer = setTimeout(listen, ASK);
    } catch (e) {
      if (signal.aborted || isAbort(e)) return;
      if (!(e instanceof ApiError && e.passes)) return gone(e);
      connected(false);
      timer = setTimeout(ask, ASK);
    }
  };
  listen();
}
