// The HTTP API, as docs/http.md describes it. Every error is an ApiError whose message is a sentence for the user.

import { sentence } from "./format";
import { loginAgain } from "./session";

export type JobState = "uploading" | "queued" | "running" | "done" | "failed" | "cancelled";

/** Options of command 11 of src/protocol/README.md. */
export interface JobOptions {
  conf_thres?: number;
  prediction_mode?: string;
  fps?: number;
  keyframes?: number | null;
  mask_black_bg?: boolean;
  mask_white_bg?: boolean;
  mask_sky?: boolean;
  drop_edges?: boolean;
  drop_outliers?: boolean;
  refine?: boolean;
  show_cam?: boolean;
  max_points?: number | null;
  format?: string;
  attention?: string;
  anchors?: number | null;
  drop_unrelated?: boolean;
  name?: string;
}

/** A file of a job that is uploading. */
export interface UploadFile {
  url: string;
  name: string;
  offset: number;
  length: number;
}

export interface Job {
  id: number;
  state: JobState;
  name: string;
  place?: number;
  stage?: string;
  fraction?: number;
  seconds_left?: number;
  /** Whether preview.glb is there; of one that runs. */
  has_preview?: boolean;
  reason?: string;
  warnings: { kind: string; text: string }[];
  result?: { hash: string; size: number; public: boolean };
  uploads?: UploadFile[];
  expires_at?: string;
  created_at: string | null;
  finished_at?: string;
  options?: JobOptions;
  meters_per_unit?: number;
}

export interface Service {
  version: string;
  max_upload: number;
  max_images: number;
  sky: boolean;
  video: boolean;
  demo_weights: boolean;
}

export interface Session {
  username: string;
  is_vip: boolean;
  expires_at: string | null;
}

export interface Link {
  id: number;
  created_at: string;
  expires_at: string | null;
}

export interface Token {
  id: number;
  name: string;
  created_at: string;
  last_used_at: string | null;
  expires_at: string | null;
}

export interface SharedScene {
  name: string;
  frames: number;
  expires_at: string | null;
}

/** An error of the API, or that there was no answer: then `status` is 0. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** Whether the same request may succeed later. */
  get passes(): boolean {
    return [0, 408, 423, 429, 460, 502, 503, 504].includes(this.status) || this.code === "offset_mismatch";
  }
}

/** Sentences of codes whose own detail is for programs. */
const SENTENCES: Record<string, string> = {
  wrong_login: "The user name or the password is wrong.",
  too_many_logins: "There were too many wrong passwords. Wait a few minutes, then try again.",
  not_logged_in: "You are not logged in.",
  busy: "The server is busy: its queue is full, or it is about to restart. Try again in a minute.",
  disk_full: "The server's disk is full. Its operator has to make space.",
  internal: "The server failed. Its log has the cause.",
  cross_site: "The server does not accept this page's address. If there is a proxy, it has to send X-Forwarded-Host.",
};

const NO_ANSWER = "The server cannot be reached. Check the connection.";

/** Returns the error that an answer is. */
export function errorOf(status: number, body: string): ApiError {
  let problem: { code?: string; detail?: string; title?: string } = {};
  try {
    problem = JSON.parse(body);
  } catch {
    // Of a proxy in between.
  }
  const code = problem.code ?? "other";
  const said = problem.detail || problem.title;
  return new ApiError(status, code, SENTENCES[code] ?? (said ? sentence(said) : `The server answered with status ${status}.`));
}

interface Request {
  method?: string;
  json?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** Of a request that needs no login, or is one. */
  anonymous?: boolean;
}

/** Sends a request. When the login has ended, asks for it and sends the request once more. */
export async function send(path: string, request: Request = {}): Promise<Response> {
  const { method = "GET", json, headers = {}, signal, anonymous } = request;
  const init: RequestInit = { method, headers: { Accept: "application/json", ...headers }, cache: "no-store" };
  if (signal) init.signal = signal;
  if (json !== undefined) {
    init.body = JSON.stringify(json);
    init.headers = { ...init.headers, "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError(0, "no_answer", NO_ANSWER);
  }
  if (response.ok) {
    if (!anonymous) document.body.dataset.used = "";
    return response;
  }
  const error = errorOf(response.status, await response.text().catch(() => ""));
  if (response.status === 401 && !anonymous) {
    await loginAgain();
    return send(path, { ...request, anonymous: true });
  }
  throw error;
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send(path, { signal })).json();
}

async function change<T>(method: string, path: string, json?: unknown): Promise<T> {
  const response = await send(path, { method, json });
  return (response.status === 204 ? undefined : await response.json()) as T;
}

const anonymous = true;
const jobPath = (id: number) => `/api/v1/jobs/${id}`;

let service: Promise<Service> | undefined;

export const api = {
  logIn: async (username: string, password: string): Promise<Session> =>
    (await send("/api/v1/sessions", { method: "POST", json: { username, password }, anonymous })).json(),
  logOut: () => change<void>("DELETE", "/api/v1/sessions/current"),
  session: () => get<Session>("/api/v1/sessions/current"),
  /** What the server can do; asked for once. */
  service: (): Promise<Service> => {
    service ??= send("/api/v1/service", { anonymous }).then((response) => response.json());
    service.catch(() => (service = undefined));
    return service;
  },
  storage: (signal?: AbortSignal) => get<{ used: number; limit: number }>("/api/v1/storage", signal),
  jobs: (limit: number, before?: number | null, signal?: AbortSignal) =>
    get<{ jobs: Job[]; next: number | null }>(`/api/v1/jobs?limit=${limit}${before ? `&before=${before}` : ""}`, signal),
  job: (id: number, signal?: AbortSignal) => get<Job>(jobPath(id), signal),
  createJob: (options: JobOptions) => change<Job>("POST", "/api/v1/jobs", { options }),
  start: (id: number) => change<Job>("POST", `${jobPath(id)}/start`),
  rename: (id: number, name: string) => change<Job>("PATCH", jobPath(id), { name }),
  setScale: (id: number, metersPerUnit: number | null) => change<Job>("PATCH", jobPath(id), { meters_per_unit: metersPerUnit }),
  /** Cancels a job that waits or runs; one that has just ended stays. */
  cancel: (id: number) => change<Job | undefined>("DELETE", `${jobPath(id)}?only_cancel=true`),
  remove: (id: number) => change<Job | undefined>("DELETE", jobPath(id)),
  rerun: (id: number, options: JobOptions) => change<Job>("POST", `${jobPath(id)}/rerun`, options),
  links: (id: number) => get<{ links: Link[] }>(`${jobPath(id)}/links`),
  createLink: (id: number, days: number | null) =>
    change<Link & { path: string }>("POST", `${jobPath(id)}/links`, days === null ? {} : { expires_in_days: days }),
  removeLink: (id: number, link: number) => change<void>("DELETE", `${jobPath(id)}/links/${link}`),
  tokens: () => get<{ tokens: Token[] }>("/api/v1/tokens"),
  createToken: (name: string, days: number | null) =>
    change<Token & { token: string }>("POST", "/api/v1/tokens", days === null ? { name } : { name, expires_in_days: days }),
  revokeToken: (id: number) => change<void>("DELETE", `/api/v1/tokens/${id}`),
  shared: async (secret: string, signal: AbortSignal): Promise<SharedScene> => (await send(`/s/${secret}`, { anonymous, signal })).json(),
};

/** Where the files of a result are. */
export const artifacts = (id: number) => `${jobPath(id)}/artifacts`;

/** What went wrong as a sentence. */
export function messageOf(error: unknown): string {
  return error instanceof Error && error.message ? error.message : "Something went wrong in this page. Reload it.";
}

/** Whether an error only says that a page was left. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
