// Sends the files of a job in parts, by tus 1.0, and goes on after every cut. An upload outlives the page that shows it, but not the tab.

import { ApiError, api, errorOf, isAbort, messageOf, send, type Job, type UploadFile } from "./api";
import { loginAgain } from "./session";

/** Bytes of a part. What of it has arrived when it is cut off is kept, so this only bounds what a proxy has to take at once. */
const PART = 8 * 1000 * 1000;

/** Files that are sent at the same time: while the server writes one, another is on the way. */
const AT_ONCE = 2;

/** Seconds between tries, doubled each time. */
const [PAUSE_MIN, PAUSE_MAX] = [1, 30];

const TUS = { "Tus-Resumable": "1.0.0" };

export type Stage = "announcing" | "sending" | "waiting" | "paused" | "starting" | "failed" | "started";

interface Part {
  file: File;
  /** Where its parts go; null: the server does not know of it yet. */
  url: string | null;
  /** Bytes that the server has. */
  offset: number;
  /** Bytes of the part that is on its way. */
  onTheWay: number;
  /** Whether the server may have more than `offset`: a part was cut off, by this tab or an earlier one. */
  unsure: boolean;
}

/** An upload in this tab. */
export class Upload {
  stage: Stage = "announcing";
  /** Why it waits, or has failed. */
  message = "";
  /** Bytes in a second, once that is known. */
  speed: number | null = null;
  readonly total: number;
  private stop = new AbortController();
  private listeners = new Set<() => void>();
  private pace: { time: number; sent: number }[] = [];
  /** Bytes of files that were sent completely in an earlier visit. */
  private readonly before: number;

  constructor(
    readonly job: number,
    private parts: Part[],
    before: UploadFile[] = [],
  ) {
    this.before = before.reduce((sum, file) => sum + file.length, 0);
    this.total = this.before + parts.reduce((sum, { file }) => sum + file.size, 0);
    uploads.set(job, this);
    this.resume();
  }

  get sent(): number {
    return this.before + this.parts.reduce((sum, part) => sum + part.offset + part.onTheWay, 0);
  }

  get files(): { done: number; all: number } {
    return { done: this.parts.filter((part) => part.offset === part.file.size).length, all: this.parts.length };
  }

  /** Whether bytes would be lost if the tab was closed now. */
  get isActive(): boolean {
    return !["failed", "started", "paused"].includes(this.stage);
  }

  /** Calls a function at each change, until the signal. */
  watch(listener: () => void, signal: AbortSignal): void {
    this.listeners.add(listener);
    signal.addEventListener("abort", () => this.listeners.delete(listener));
  }

  pause(): void {
    this.stop.abort();
    this.set("paused");
  }

  resume(): void {
    if (this.stage !== "announcing" && this.isActive) return;
    this.stop = new AbortController();
    this.pace = [];
    this.set("announcing");
    void this.run(this.stop.signal);
  }

  /** Ends it, and removes what has arrived. */
  async cancel(): Promise<void> {
    this.stop.abort();
    this.set("paused");
    await api.remove(this.job);
    uploads.delete(this.job);
  }

  private set(stage: Stage, message = ""): void {
    [this.stage, this.message] = [stage, message];
    for (const listener of this.listeners) listener();
  }

  private async run(signal: AbortSignal): Promise<void> {
    try {
      for (const part of this.parts) {
        if (part.url === null) await this.repeated(signal, () => this.announce(part, signal), () => this.known());
      }
      this.set("sending");
      const open = this.parts.filter((part) => part.offset < part.file.size);
      const work = async () => {
        for (let part = open.shift(); part; part = open.shift()) await this.sendFile(part, signal);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      this.set("starting");
      await this.repeated(signal, () => api.start(this.job));
      uploads.delete(this.job);
      forgetCount(this.job);
      this.set("started");
    } catch (e) {
      if (signal.aborted || isAbort(e)) return;
      // Else the other file would go on behind the message.
      this.stop.abort();
      this.set("failed", messageOf(e));
    }
  }

  /** Repeats what fails for a while, after longer and longer pauses; `before` runs before each further try. */
  private async repeated<T>(signal: AbortSignal, action: () => Promise<T>, before?: () => Promise<void>): Promise<T> {
    let pause = PAUSE_MIN;
    for (let tries = 0; ; tries++) {
      signal.throwIfAborted?.();
      const stage = this.stage === "waiting" ? "sending" : this.stage;
      try {
        if (tries > 0) await before?.();
        const result = await action();
        if (this.stage === "waiting") this.set(stage);
        return result;
      } catch (e) {
        if (!(e instanceof ApiError && e.passes) || signal.aborted) throw e;
        this.set("waiting", `${e.message} Trying again by itself.`);
        await rest(pause, signal);
        pause = Math.min(2 * pause, PAUSE_MAX);
      }
    }
  }

  private async announce(part: Part, signal: AbortSignal): Promise<void> {
    const headers = { ...TUS, "Upload-Length": String(part.file.size), "Upload-Metadata": `filename ${base64(part.file.name)}` };
    const made = await send(`/api/v1/jobs/${this.job}/uploads`, { method: "POST", headers, signal });
    part.url = made.headers.get("Location");
    if (this.stage === "waiting") this.set("announcing");
  }

  /** Takes over what the server knows: an answer may have been lost. Files are announced in order. */
  private async known(): Promise<void> {
    const { uploads: there = [] } = await api.job(this.job);
    this.parts.forEach((part) => {
      const taken = new Set(this.parts.map((other) => other.url));
      if (part.url !== null) return;
      const found = there.find((file) => !taken.has(file.url) && file.name === part.file.name && file.length === part.file.size);
      if (found) [part.url, part.offset] = [found.url, found.offset];
    });
  }

  private async sendFile(part: Part, signal: AbortSignal): Promise<void> {
    const ask = async () => {
      part.onTheWay = 0;
      part.offset = await offsetOf(part.url!, signal);
      part.unsure = false;
    };
    if (part.unsure) await this.repeated(signal, ask);
    while (part.offset < part.file.size) {
      await this.repeated(signal, () => this.sendPart(part, signal), ask);
    }
  }

  private async sendPart(part: Part, signal: AbortSignal): Promise<void> {
    if (part.offset >= part.file.size) return;
    const piece = part.file.slice(part.offset, part.offset + PART);
    const progress = (sent: number) => {
      part.onTheWay = sent;
      this.measure();
      if (this.stage === "waiting") this.set("sending");
      else for (const listener of this.listeners) listener();
    };
    part.unsure = true;
    try {
      part.offset = await patch(part.url!, part.offset, piece, progress, signal);
      [part.onTheWay, part.unsure] = [0, false];
      this.set("sending");
    } catch (e) {
      if (e instanceof ApiError && e.status === 0) await checkReadable(part.file);
      throw e;
    }
  }

  /** Speed over the last five seconds. */
  private measure(): void {
    const now = { time: performance.now(), sent: this.sent };
    this.pace = [...this.pace.filter(({ time }) => now.time - time < 5000), now];
    const first = this.pace[0]!;
    if (now.time - first.time > 500) this.speed = Math.max(0, ((now.sent - first.sent) * 1000) / (now.time - first.time));
  }
}

/** Those of this tab, by their job. */
const uploads = new Map<number, Upload>();

export const uploadOf = (job: number): Upload | undefined => uploads.get(job);

addEventListener("beforeunload", (event) => {
  if ([...uploads.values()].some((upload) => upload.isActive)) event.preventDefault();
});

/** How many files an upload was to have: the server only knows of those that were announced. */
const countKey = (job: number) => `vggt.files.${job}`;
const forgetCount = (job: number) => localStorage.removeItem(countKey(job));

/** Begins to upload the files of a new job. */
export function beginUpload(job: Job, files: File[]): Upload {
  localStorage.setItem(countKey(job.id), String(files.length));
  return new Upload(job.id, files.map((file) => ({ file, url: null, offset: 0, onTheWay: 0, unsure: false })));
}

/** What is missing of a job that was left while it was uploading. */
export function missingOf(job: Job): { files: UploadFile[]; unknown: number } {
  const there = job.uploads ?? [];
  const count = Number(localStorage.getItem(countKey(job.id)) ?? there.length);
  return { files: there.filter((file) => file.offset < file.length), unknown: Math.max(0, count - there.length) };
}

/** Goes on with such a job; returns the names of files that are still missing, and then begins nothing. */
export function continueUpload(job: Job, chosen: File[]): string[] {
  const { files: missing, unknown } = missingOf(job);
  const left = [...chosen];
  const lacking: string[] = [];
  const parts: Part[] = [];
  const take = (name: string, length: number) => {
    const at = left.findIndex((file) => file.name === name && file.size === length);
    return at < 0 ? undefined : left.splice(at, 1)[0];
  };
  for (const { url, name, offset, length } of missing) {
    const file = take(name, length);
    if (file) parts.push({ file, url, offset, onTheWay: 0, unsure: true });
    else lacking.push(name);
  }
  if (lacking.length > 0) return lacking;
  // Those that were sent as a whole are not needed again; what is left then had not been announced.
  const whole = (job.uploads ?? []).filter((file) => file.offset === file.length);
  for (const { name, length } of whole) take(name, length);
  const fresh = job.uploads?.length ? left.slice(0, unknown) : left;
  for (const file of fresh) parts.push({ file, url: null, offset: 0, onTheWay: 0, unsure: false });
  new Upload(job.id, parts, whole);
  return [];
}

/** Asks how much of a file the server has. */
async function offsetOf(url: string, signal: AbortSignal): Promise<number> {
  const answer = await send(url, { method: "HEAD", headers: TUS, signal });
  return Number(answer.headers.get("Upload-Offset") ?? 0);
}

/** Sends a part; returns how much the server has then. With XMLHttpRequest, since `fetch` does not tell how much was sent. */
async function patch(url: string, offset: number, piece: Blob, progress: (sent: number) => void, signal: AbortSignal): Promise<number> {
  const answer = await new Promise<XMLHttpRequest>((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PATCH", url);
    for (const [name, value] of Object.entries(TUS)) request.setRequestHeader(name, value);
    request.setRequestHeader("Upload-Offset", String(offset));
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new ApiError(0, "no_answer", "The connection was lost."));
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(piece);
  });
  if (answer.status === 401) {
    await loginAgain();
    throw new ApiError(0, "no_answer", "The login had ended.");
  }
  if (answer.status >= 300) throw errorOf(answer.status, answer.responseText);
  return Number(answer.getResponseHeader("Upload-Offset"));
}

/** Tells a file that has changed or is gone from a connection that is lost: both fail in the same way. */
async function checkReadable(file: File): Promise<void> {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new ApiError(400, "unreadable", `${file.name} cannot be read any more: it was changed, moved or removed. Choose the files again.`);
  }
}

/** Waits, at most until the connection is back. */
function rest(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    addEventListener("online", () => resolve(), { once: true });
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(new DOMException("aborted", "AbortError"))), { once: true });
  });
}

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
