// The types of Cluster AI's native API, made from its OpenAPI description by clients/generate.py. Not to be edited.

/** good: whether the whole log is as it was written; problem says what isn't. */
export interface AuditReply {
  /** Each a JSON object, with the hash of the line before. */
  lines: string[];
  /** The number of the last good line. */
  head: number;
  /** Its hash: kept elsewhere, it proves later that nothing was changed. */
  hash: string;
  /** The number of the oldest line that is kept. */
  first: number | null;
  good: boolean;
  problem: string;
}

export interface BulkRequest {
  tasks: TaskRequest[];
}

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** A whole answer; also the last object of a stream, there with an empty message. */
export interface ChatReply {
  model: string;
  done: boolean;
  done_reason: string | null;
  worker: string;
  routing: Routing;
  /** Seconds from the request's arrival at the gateway. */
  time_to_first_token: number;
  /** By the engine's clock, without prompt and loading. */
  tokens_per_second: number | null;
  /** Seconds the engine spent on having the model in memory. */
  load_time: number | null;
  /** Seconds at the gateway. */
  total_time: number;
  usage: TokenUsage;
  request_id: string;
  message: ChatMessage;
  /** null: the turn isn't kept. */
  session: SessionTurn | null;
}

export interface ChatRequest {
  /** May be absent where the session has one. */
  model?: string | null;
  /** A session's id: its messages go before these, and this turn is kept in it when it is whole. */
  session?: string | null;
  /** What is new; without a session, all of it. */
  messages?: ChatMessage[];
  /** A template's name, in place of the text. It becomes the user's last message. */
  template?: string | null;
  /** What goes into the template's gaps; each must be there. */
  variables?: Record<string, string>;
  /** In place of the template's, the session's or the model's own. */
  system?: string | null;
  /** `json`, or a JSON schema that the answer is to follow. */
  format?: "json" | Record<string, JsonValue> | null;
  /** Newline-delimited JSON, the last object with `done: true`. */
  stream?: boolean;
  /** Ollama's runtime options (`temperature`, `seed`, `num_predict`, ...); `num_ctx` is the cluster's. */
  options?: Record<string, JsonValue>;
  /** Who is to answer: the engine on the gateway's own host (`local`), any worker by the gateway's policy (`distributed`), or as fits the prompt and the load (`auto`). The answer's `routing` says what came of it. */
  mode?: "auto" | "local" | "distributed";
}

/** A worker that gets nothing new, neither requests nor Dask tasks. It is empty when nothing is left of either. */
export interface CordonInfo {
  reason: string;
  since: string;
  /** Its results in Dask are moved to other workers too. */
  drained: boolean;
  /** Dask tasks that it still has; null where that isn't known. */
  tasks: number | null;
  /** Results that still are on it alone, though others could take them. */
  results: number | null;
  /** Why Dask doesn't know of it; it is told as soon as that can be. */
  untold: string | null;
}

export interface CordonRequest {
  /** For people who look at the status. */
  reason?: string;
}

export interface Error {
  code: string;
  message: string;
}

export interface ErrorReply {
  error: Error;
  request_id: string;
}

/** A whole answer; also the last object of a stream, there with an empty response. */
export interface GenerateReply {
  model: string;
  done: boolean;
  done_reason: string | null;
  worker: string;
  routing: Routing;
  /** Seconds from the request's arrival at the gateway. */
  time_to_first_token: number;
  /** By the engine's clock, without prompt and loading. */
  tokens_per_second: number | null;
  /** Seconds the engine spent on having the model in memory. */
  load_time: number | null;
  /** Seconds at the gateway. */
  total_time: number;
  usage: TokenUsage;
  request_id: string;
  response: string;
}

export interface GenerateRequest {
  /** A model's name; without a tag, `latest` is meant. */
  model: string;
  /** The text; else `template`. */
  prompt?: string | null;
  /** A template's name, in place of the text. */
  template?: string | null;
  /** What goes into the template's gaps; each must be there. */
  variables?: Record<string, string>;
  /** In place of the template's or the model's own system prompt. */
  system?: string | null;
  /** `json`, or a JSON schema that the answer is to follow. */
  format?: "json" | Record<string, JsonValue> | null;
  /** Newline-delimited JSON, the last object with `done: true`. */
  stream?: boolean;
  /** Ollama's runtime options (`temperature`, `seed`, `num_predict`, ...); `num_ctx` is the cluster's. */
  options?: Record<string, JsonValue>;
  /** Who is to answer: the engine on the gateway's own host (`local`), any worker by the gateway's policy (`distributed`), or as fits the prompt and the load (`auto`). The answer's `routing` says what came of it. */
  mode?: "auto" | "local" | "distributed";
}

export interface GpuInfo {
  index: number;
  name: string;
  /** Bytes; null: it has none of its own, it shares the host's. */
  memory_used: number | null;
  /** Bytes; null as memory_used. */
  memory_total: number | null;
  usage: number | null;
  /** Degrees Celsius; null where the card doesn't tell. */
  temperature: number | null;
  /** Watts; null where the card doesn't tell. */
  power: number | null;
}

export interface HostChange {
  host: string;
  /** The release that it ran; null: none yet. */
  before: string | null;
  /** The release that it is to run. */
  wanted: string;
}

export interface Ids {
  /** In the order of the request. */
  ids: string[];
}

export type JsonValue = unknown;

export interface KeyInfo {
  name: string;
  priority: number;
  role: "viewer" | "user" | "operator" | "admin" | "service";
  limits: KeyLimits;
  models: string[] | null;
  created: string;
  ends: string | null;
}

/** null: as cluster.yaml has it for every user; 0: no limit. */
export interface KeyLimits {
  requests_per_minute?: number | null;
  /** Of prompts and answers together. */
  tokens_per_minute?: number | null;
  /** Requests that run or wait at once. */
  max_concurrent?: number | null;
}

export interface KeyList {
  keys: KeyInfo[];
}

export interface KeyRequest {
  /** Whose it is: stands in logs and usage. */
  name: string;
  /** Of requests that wait, a higher one goes first. */
  priority?: number;
  /** What it may; `cluster-ai roles` shows it. */
  role?: "viewer" | "user" | "operator" | "admin" | "service";
  limits?: KeyLimits;
  /** The only ones that may be used; null: all. */
  models?: string[] | null;
  /** How long it is good; null: until it is revoked. */
  days?: number | null;
}

export interface LastPlan {
  /** null: nobody has left one. */
  plan: PublishedPlan | null;
}

/** Seconds that half of the requests took at most, and so on; null where there were none. */
export interface Latency {
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

export interface LoadRequest {
  /** Only there; else on every worker that it is placed on. */
  worker?: string | null;
  /** How long it stays without requests: seconds, or like `5m`, `1h30m`; negative: for ever. null: the engine's own. */
  keep_alive?: string | number | null;
}

/** token is for `Authorization: Bearer`; refresh gets the next one, once, and is as secret as a password. */
export interface LoginReply {
  user: string;
  role: "viewer" | "user" | "operator" | "admin" | "service";
  token: string;
  ends: string;
  /** Seconds. */
  expires_in: number;
  refresh: string;
}

export interface LoginRequest {
  user: string;
  password: string;
}

/** Of one replica. weights and cache are parts of total, null where not known apart; buffers are the rest. */
export interface MemoryNeed {
  total: number;
  weights: number | null;
  cache: number | null;
  /** Where these numbers come from. */
  why: string;
}

/** Of this gateway: rates and times over the last minute, totals since its start. */
export interface Metrics {
  /** What the rates are over; less than a minute after a start. */
  window_seconds: number;
  /** Of all APIs, less health checks and metrics. */
  requests_per_second: number;
  /** Of answers that ended. */
  tokens_per_second: number;
  /** Answers of 500 and above. */
  errors_per_second: number;
  response_time: Latency;
  time_to_first_token: Latency;
  in_flight: number;
  requests_total: number;
  errors_total: number;
  tokens_total: number;
  inferences_total: number;
  failovers_total: number;
}

export interface ModelChange {
  model: string;
  workers: WorkerOutcome[];
}

/** As it runs. cluster.yaml is the source: what it says of a model, only it changes. */
export interface ModelConfig {
  name: string;
  /** Tokens of context that each request gets; null: the engine's own. */
  context: number | null;
  /** Who says the context. Only one that isn't cluster.yaml's can be changed here. */
  source: "cluster.yaml" | "api" | "engine";
  /** What the model itself brings; a request's go before. */
  options: Record<string, string | string[]>;
  system: string | null;
  template: string | null;
  capabilities: string[];
}

export interface ModelConfigRequest {
  /** null: the engine's own. */
  context: number | null;
}

/** A model on one worker. */
export interface ModelCopy {
  worker: string;
  /** `loaded`: in memory; `loading`: on its way there; `present`: on the worker's disk; `missing`: it should be there, and can't be used there now. */
  state: "loaded" | "loading" | "present" | "missing";
  reason: string | null;
}

/** Why a model is on these workers, and not on others. */
export interface ModelExplanation {
  name: string;
  memory: MemoryNeed;
  /** As cluster.yaml says; null: one on every worker where it fits. */
  replicas: number | null;
  /** All workers, those that hold it first. */
  workers: WorkerReason[];
}

/** Sizes are bytes. What no worker has told yet is null. */
export interface ModelInfo {
  name: string;
  size: number | null;
  digest: string | null;
  family: string | null;
  parameter_size: string | null;
  quantization: string | null;
  /** Tokens of context that the cluster runs it with. */
  context: number | null;
  /** Workers that it is placed on. */
  replicas: number;
  /** Healthy workers that have it on disk. */
  present: string[];
  /** Healthy workers that have it in memory. */
  loaded: string[];
  /** Tokens of context that the model was made for. */
  context_limit: number | null;
  license: string | null;
  /** `registry`: Ollama's, by its name; else the GGUF file that cluster.yaml names. null: cluster.yaml doesn't name the model. */
  source: string | null;
  /** What one replica takes, or is taken to take. */
  memory: number | null;
  /** Every worker that has it, or should. */
  workers: ModelCopy[];
}

export interface Models {
  models: ModelInfo[];
}

export interface NetworkInfo {
  name: string;
  addresses: string[];
  /** Mbit/s; null: it doesn't say. */
  speed: number | null;
}

/** The key is told here, and nowhere else ever again. */
export interface NewKey {
  name: string;
  priority: number;
  role: "viewer" | "user" | "operator" | "admin" | "service";
  limits: KeyLimits;
  models: string[] | null;
  created: string;
  ends: string | null;
  key: string;
}

export interface PasswordRequest {
  old: string;
  /** Only a slow hash of it is kept. */
  new: string;
}

export interface PlannedHosts {
  /** Those on which the same changes. */
  hosts: string;
  changes: string[];
}

export interface PlannedWave {
  when: string;
  hosts: string;
  /** What is unavailable, and what is waited for. */
  meanwhile: string[];
}

/** Of the OpenID provider; client_id: of programs that ask it on a person's own machine. */
export interface ProviderInfo {
  issuer: string;
  client_id: string;
}

export interface ProviderRequest {
  /** Of the OpenID provider, for a client of this cluster. */
  id_token: string;
}

export interface PublishedPlan {
  made: string;
  who: string;
  /** SHA-256 of the cluster.yaml that it was made of. */
  configuration: string;
  /** That cluster.yaml. */
  text: string;
  /** The hosts that it is about; empty: all. */
  limit: string[];
  summary: string;
  changes: string[];
  waves: PlannedWave[];
  hosts: PlannedHosts[];
  /** Hosts that change, and are not told of one by one. */
  left_out: number;
  /** Hosts that could not be asked, and why. */
  unreachable: string[];
}

export interface RefreshRequest {
  refresh: string;
}

export interface RenderRequest {
  /** What goes into the gaps; each must be there. */
  variables?: Record<string, string>;
}

export interface Rendered {
  text: string;
  system: string | null;
}

/** One of the user's files: `/v1/files/{id}/content` has it. */
export interface ResultFile {
  id: string;
  filename: string;
  bytes: number;
  sha256: string;
  /** Seconds since 1970. */
  expires_at: number;
}

export interface RolloutConfiguration {
  id: string;
  sha256: string;
  /** The cluster.yaml that it applied, as it was. */
  text: string;
}

export interface RolloutDetails {
  id: string;
  command: string;
  who: string;
  strategy: string;
  state: string;
  reason: string;
  started: string;
  ended: string | null;
  /** SHA-256 of the cluster.yaml that it applied. */
  configuration: string;
  hosts: HostChange[];
  waves: RolloutWave[];
  steps: RolloutStep[];
}

/** state: running, done, failed, returned, paused, interrupted or undone. Times are UTC. */
export interface RolloutInfo {
  id: string;
  command: string;
  who: string;
  strategy: string;
  state: string;
  reason: string;
  started: string;
  ended: string | null;
  /** SHA-256 of the cluster.yaml that it applied. */
  configuration: string;
}

export interface RolloutStep {
  at: string;
  step: string;
  /** Empty: of the rollout as a whole. */
  host: string;
  status: string;
  /** Why it failed; of an `analysis`, its verdict as JSON. */
  detail: string;
}

/** Hosts that are switched together. pause, bake: seconds afterwards, of waiting and of traffic that is judged. */
export interface RolloutWave {
  hosts: string[];
  kind: string;
  pause: number;
  bake: number;
}

export interface Rollouts {
  rollouts: RolloutInfo[];
}

export interface Routing {
  mode: "local" | "distributed";
  reason: string;
  worker: string;
}

export interface Scaling {
  /** The latest 500, the newest first. */
  decisions: ScalingDecision[];
}

export interface ScalingDecision {
  /** UTC. */
  at: string;
  /** What there is more or less of: `replicas` of a model in memory, or getting there; Dask worker `processes` of a worker; `power`, where 1 is a standby host awake. */
  kind: "replicas" | "processes" | "power";
  /** Of the model, or of the worker. */
  name: string;
  before: number;
  after: number;
  reason: string;
  /** It was only told, as cluster.yaml wants it. */
  dry_run: boolean;
}

export interface SessionHistory {
  id: string;
  title: string;
  model: string | null;
  system: string | null;
  created: string;
  /** When its last turn was kept. One that isn't used for 30 days is deleted. */
  used: string;
  turns: number;
  messages: SessionMessage[];
}

/** Times are UTC. */
export interface SessionInfo {
  id: string;
  title: string;
  model: string | null;
  system: string | null;
  created: string;
  /** When its last turn was kept. One that isn't used for 30 days is deleted. */
  used: string;
  turns: number;
}

export interface SessionMessage {
  role: string;
  content: string;
  at: string;
  /** Who answered. */
  worker: string | null;
}

export interface SessionRequest {
  /** Empty: the first question becomes it. */
  title?: string;
  /** For turns that name none. */
  model?: string | null;
  /** The system prompt of each turn. */
  system?: string | null;
}

export interface SessionTurn {
  id: string;
  /** How many it has with this one. */
  turns: number;
}

export interface Sessions {
  sessions: SessionInfo[];
}

/** cpu_utilization and memory_usage are shares of 0 to 1 over all hosts that report; null where none does. */
export interface Status {
  cluster: string;
  total_workers: number;
  active_workers: number;
  /** Requests in flight through this gateway, and Dask tasks that run. */
  active_tasks: number;
  cpu_utilization: number | null;
  memory_usage: number | null;
  /** Cards that the workers' drivers report. */
  gpu_available: number;
  scheduler_connected: boolean;
  scheduler_reason: string | null;
  workers: WorkerInfo[];
}

/** tokens: as the engines counted them. An answer that its client didn't await has none. */
export interface Sum {
  requests: number;
  prompt_tokens: number;
  completion_tokens: number;
  /** In which the requests held a slot of a model. */
  seconds: number;
}

/** state: queued (waits here), sent (waits or runs on a worker), done, failed or cancelled. Times are UTC. */
export interface TaskInfo {
  id: string;
  kind: string;
  state: "queued" | "sent" | "done" | "failed" | "cancelled";
  user: string;
  /** Which one it is, or was; 0: none yet. */
  attempt: number;
  worker: string | null;
  error: string | null;
  /** A share of 0 to 1, as the task says itself while it runs; 1 when it is done; null: it says none. */
  progress: number | null;
  /** What it does just now. */
  progress_text: string | null;
  /** The id of the file with what came out, where that is large. */
  result_file: string | null;
  submitted: string;
  ended: string | null;
  cpu: number;
  memory: number;
  gpu: number;
  timeout: number;
  retries: number;
  priority: number;
  tags: string[];
  idempotent: boolean;
}

/** What is to be done, and what that needs. memory is bytes, timeout seconds of running. */
export interface TaskRequest {
  /** ai_inference: `payload` is for Ollama's generate (prompt), chat (messages) or embed (input). data_processing: `payload` has `input`, paths of CSV or Parquet files in the workers' data folder, `steps` (select, filter, convert, aggregate) and `output` (csv, jsonl, parquet); what comes out is a file. custom: `payload` names a `function` of an installed plugin, and its `arguments`. */
  kind: "ai_inference" | "data_processing" | "custom";
  payload: Record<string, unknown>;
  cpu?: number;
  memory?: number;
  gpu?: number;
  timeout?: number;
  /** How often it is tried again after it failed. */
  retries?: number;
  /** The highest first. */
  priority?: number;
  tags?: string[];
  /** Whether it may run again when its worker dies. By itself all but a custom one may; that one not: it then fails, and says so. */
  idempotent?: boolean | null;
}

export interface TaskResult {
  id: string;
  /** What the engine, or the function, answered; null where that is in the file. */
  result: unknown;
  /** What came out, where that is large. */
  file: ResultFile | null;
}

export interface Tasks {
  tasks: TaskInfo[];
}

export interface TemplateInfo {
  name: string;
  text: string;
  system: string | null;
  description: string;
  shared: boolean;
  /** Its gaps. */
  variables: string[];
  changed: string;
}

export interface TemplateRequest {
  /** Gaps are {{name}}; all else is text. */
  text: string;
  /** A system prompt, which may have gaps too. */
  system?: string | null;
  description?: string;
  /** For everyone; only an operator may. */
  shared?: boolean;
}

export interface Templates {
  templates: TemplateInfo[];
}

export interface TokenUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface UnloadRequest {
  /** Only there; else on every worker that it is placed on. */
  worker?: string | null;
}

/** day, user and model are null where `by` leaves them out. */
export interface UsageLine {
  requests: number;
  prompt_tokens: number;
  completion_tokens: number;
  /** In which the requests held a slot of a model. */
  seconds: number;
  day: string | null;
  user: string | null;
  model: string | null;
}

export interface UsageReply {
  /** The first day, of UTC. */
  first: string;
  last: string;
  lines: UsageLine[];
  total: Sum;
}

/** What isn't named stays as it is. */
export interface UserChange {
  /** A new one ends all logins. */
  password?: string | null;
  role?: "viewer" | "user" | "operator" | "admin" | null;
  priority?: number | null;
  limits?: KeyLimits | null;
  /** null: all, where it is named. */
  models?: string[] | null;
}

export interface UserInfo {
  name: string;
  role: "viewer" | "user" | "operator" | "admin" | "service";
  priority: number;
  limits: KeyLimits;
  models: string[] | null;
  created: string;
  /** Whether the OpenID provider vouches for them; they have no password here then. */
  oidc: boolean;
  /** How many there are now. */
  logins: number;
}

export interface UserList {
  users: UserInfo[];
}

export interface UserRequest {
  /** Stands in logs and usage. */
  name: string;
  /** Only a slow hash of it is kept. */
  password: string;
  role?: "viewer" | "user" | "operator" | "admin";
  /** Of requests that wait, a higher one goes first. */
  priority?: number;
  limits?: KeyLimits;
  /** The only ones that may be used; null: all. */
  models?: string[] | null;
}

export interface WhoAmI {
  name: string;
  role: "viewer" | "user" | "operator" | "admin" | "service";
  /** The only ones that may be used; null: all. */
  models: string[] | null;
  /** What the role may: action and resource. */
  may: string[];
}

/** cpu is a share of 0 to 1, memory is bytes; null where the last heartbeat is missing or too old. */
export interface WorkerInfo {
  name: string;
  /** joining, active, draining, down, or asleep: a standby host. */
  state: string;
  /** Why it isn't active. */
  reason: string | null;
  in_flight: number;
  slots: number;
  dask_tasks: number | null;
  placed: string[];
  /** On its disk. */
  models: string[];
  /** In its memory. */
  loaded: string[];
  engine_version: string | null;
  cpu: number | null;
  memory_used: number | null;
  memory_total: number | null;
  /** CPUs that its host and its service let it have. */
  cpus: number | null;
  /** Bytes that its host and its service let it have. */
  memory_limit: number | null;
  disk_free: number | null;
  disk_total: number | null;
  gpu: GpuInfo[];
  /** Those that are up. */
  networks: NetworkInfo[];
  /** The digest of the release that its host runs; null: it has none. */
  release: string | null;
  /** When it said so, in UTC. */
  reported: string | null;
  /** Its Dask worker, which runs tasks. silent: not heard of for about ten seconds, so it gets none; null: the scheduler is away. */
  dask: "present" | "silent" | "absent" | null;
  /** What bounds its tasks' memory. cgroup: also their CPUs, and all that they start. */
  isolation: "cgroup" | "process" | null;
  /** Why it isn't cgroup. */
  isolation_reason: string | null;
  /** Where it isn't what cluster.yaml says, or its tasks don't go on. */
  warnings: string[];
  /** null: nobody has cordoned or drained it. */
  cordon: CordonInfo | null;
}

/** What this gateway has measured of a worker since its start; null where there is nothing yet. */
export interface WorkerMetrics {
  name: string;
  in_flight: number;
  requests_ok: number;
  /** It erred or was lost, be it that another worker stepped in. */
  requests_failed: number;
  tokens_total: number;
  /** Of one answer, on average over those of 16 tokens and more. */
  tokens_per_second: number | null;
  response_time_p50: number | null;
  response_time_p95: number | null;
  time_to_first_token_p50: number | null;
  time_to_first_token_p95: number | null;
}

export interface WorkerOutcome {
  worker: string;
  done: boolean;
  /** Why not. */
  error: string | null;
}

export interface WorkerReason {
  worker: string;
  /** As in `workers` of a model; null: it neither has it nor should. */
  state: "loaded" | "loading" | "present" | "missing" | null;
  /** A replica is there, or belongs there. */
  holds: boolean;
  /** Where it runs, or would; null: it wouldn't fit. */
  processor: "gpu" | "cpu" | null;
  /** Bytes of the cards' memory beside all other models; null: not known. */
  free_gpu: number | null;
  free_ram: number | null;
  /** Of one answer there, as measured lately. */
  tokens_per_second: number | null;
  why: string;
}

/** A worker that cluster.yaml doesn't name. It lasts over restarts, until it is unregistered or named there. */
export interface WorkerRequest {
  name: string;
  /** https://HOST:PORT, where a certificate of the cluster's CA is shown; or http:// on loopback. HOST is a name or an IPv4 address. */
  url: string;
  /** Requests that it runs at once. */
  slots?: number;
  /** Its cards. */
  gpu?: number;
}

export interface Workers {
  workers: WorkerInfo[];
}

/** From an operation's name to what it takes and answers. `stream: true` answers lines instead. */
export interface Operations {
  /** Every model of the cluster, and where it is */
  listModels: {
    method: "GET";
    path: "/api/v1/models";
    reply: Models;
  };
  /** Have a model in memory, on one worker or wherever it is placed */
  loadModel: {
    method: "POST";
    path: "/api/v1/models/{name}/load";
    pathParameters: { name: string };
    body?: LoadRequest | null;
    reply: ModelChange;
  };
  /** Have a model out of memory, on one worker or on all */
  unloadModel: {
    method: "POST";
    path: "/api/v1/models/{name}/unload";
    pathParameters: { name: string };
    body?: UnloadRequest | null;
    reply: ModelChange;
  };
  /** How a model is set up */
  getModelConfig: {
    method: "GET";
    path: "/api/v1/models/{name}/config";
    pathParameters: { name: string };
    reply: ModelConfig;
  };
  /** Set the context of a model that cluster.yaml doesn't name; another's is refused with 409 */
  setModelConfig: {
    method: "PUT";
    path: "/api/v1/models/{name}/config";
    pathParameters: { name: string };
    body: ModelConfigRequest;
    reply: ModelConfig;
  };
  /** Why a model is on these workers, and not on others */
  explainModel: {
    method: "GET";
    path: "/api/v1/models/{name}/explain";
    pathParameters: { name: string };
    reply: ModelExplanation;
  };
  /** One model */
  getModel: {
    method: "GET";
    path: "/api/v1/models/{name}";
    pathParameters: { name: string };
    reply: ModelInfo;
  };
  /** Your conversations, the last used first */
  listSessions: {
    method: "GET";
    path: "/api/v1/sessions";
    reply: Sessions;
  };
  /** Begin a conversation */
  createSession: {
    method: "POST";
    path: "/api/v1/sessions";
    body?: SessionRequest | null;
    reply: SessionInfo;
  };
  /** A conversation with all its messages */
  getSession: {
    method: "GET";
    path: "/api/v1/sessions/{id}";
    pathParameters: { id: string };
    reply: SessionHistory;
  };
  /** Delete a conversation */
  deleteSession: {
    method: "DELETE";
    path: "/api/v1/sessions/{id}";
    pathParameters: { id: string };
    reply: void;
  };
  /** Your templates, and everyone's */
  listTemplates: {
    method: "GET";
    path: "/api/v1/templates";
    reply: Templates;
  };
  /** One template; your own before everyone's */
  getTemplate: {
    method: "GET";
    path: "/api/v1/templates/{name}";
    pathParameters: { name: string };
    reply: TemplateInfo;
  };
  /** Make a template, or replace it */
  putTemplate: {
    method: "PUT";
    path: "/api/v1/templates/{name}";
    pathParameters: { name: string };
    body: TemplateRequest;
    reply: TemplateInfo;
  };
  /** Delete a template */
  deleteTemplate: {
    method: "DELETE";
    path: "/api/v1/templates/{name}";
    pathParameters: { name: string };
    queryParameters: { shared?: boolean };
    reply: void;
  };
  /** A template with its gaps filled, as a prompt would be */
  renderTemplate: {
    method: "POST";
    path: "/api/v1/templates/{name}/render";
    pathParameters: { name: string };
    body: RenderRequest;
    reply: Rendered;
  };
  /** Submit a task; it is acknowledged once it can't be lost any more */
  submitTask: {
    method: "POST";
    path: "/api/v1/tasks";
    headerParameters: { "Idempotency-Key"?: string | null };
    body: TaskRequest;
    reply: TaskInfo;
  };
  /** Your tasks, the newest first */
  listTasks: {
    method: "GET";
    path: "/api/v1/tasks";
    queryParameters: { state?: "queued" | "sent" | "done" | "failed" | "cancelled" | null; tag?: string | null; limit?: number };
    reply: Tasks;
  };
  /** Submit many tasks: all of them, or none */
  submitTasks: {
    method: "POST";
    path: "/api/v1/tasks/bulk";
    body: BulkRequest;
    reply: Ids;
  };
  /** One task */
  getTaskStatus: {
    method: "GET";
    path: "/api/v1/tasks/{id}";
    pathParameters: { id: string };
    reply: TaskInfo;
  };
  /** What came out of a task that is done */
  getTaskResult: {
    method: "GET";
    path: "/api/v1/tasks/{id}/result";
    pathParameters: { id: string };
    reply: TaskResult;
  };
  /** Cancel a task; what runs is stopped. One that has ended stays as it is */
  cancelTask: {
    method: "POST";
    path: "/api/v1/tasks/{id}/cancel";
    pathParameters: { id: string };
    reply: TaskInfo;
  };
  /** The cluster and each worker, now */
  getClusterStatus: {
    method: "GET";
    path: "/api/v1/cluster/status";
    reply: Status;
  };
  /** The main figures: rates and times of the last minute, totals since the gateway's start */
  getClusterMetrics: {
    method: "GET";
    path: "/api/v1/cluster/metrics";
    reply: Metrics;
  };
  /** What the autoscaler decided, and why */
  getScaling: {
    method: "GET";
    path: "/api/v1/cluster/scaling";
    reply: Scaling;
  };
  /** Every worker, now */
  listWorkers: {
    method: "GET";
    path: "/api/v1/cluster/workers";
    reply: Workers;
  };
  /** Register a worker that cluster.yaml doesn't name; it gets requests once it has answered a check */
  registerWorker: {
    method: "POST";
    path: "/api/v1/cluster/workers";
    body: WorkerRequest;
    reply: WorkerInfo;
  };
  /** Take out a worker that was registered; what it has under way it finishes */
  unregisterWorker: {
    method: "DELETE";
    path: "/api/v1/cluster/workers/{name}";
    pathParameters: { name: string };
    reply: void;
  };
  /** One worker, now */
  getWorkerStatus: {
    method: "GET";
    path: "/api/v1/cluster/workers/{name}";
    pathParameters: { name: string };
    reply: WorkerInfo;
  };
  /** What one worker has done since the gateway's start */
  getWorkerMetrics: {
    method: "GET";
    path: "/api/v1/cluster/workers/{name}/metrics";
    pathParameters: { name: string };
    reply: WorkerMetrics;
  };
  /** Give a worker nothing new, until resume; it finishes what it has */
  cordonWorker: {
    method: "POST";
    path: "/api/v1/cluster/workers/{name}/cordon";
    pathParameters: { name: string };
    body?: CordonRequest | null;
    reply: WorkerInfo;
  };
  /** Cordon a worker, and move what only it holds in Dask. `cordon` in the status tells what is left */
  drainWorker: {
    method: "POST";
    path: "/api/v1/cluster/workers/{name}/drain";
    pathParameters: { name: string };
    body?: CordonRequest | null;
    reply: WorkerInfo;
  };
  /** Give a cordoned or drained worker requests and tasks again */
  resumeWorker: {
    method: "POST";
    path: "/api/v1/cluster/workers/{name}/resume";
    pathParameters: { name: string };
    reply: WorkerInfo;
  };
  /** Every key's name and limits */
  listKeys: {
    method: "GET";
    path: "/api/v1/keys";
    reply: KeyList;
  };
  /** Make a key; the answer alone has it */
  createKey: {
    method: "POST";
    path: "/api/v1/keys";
    body: KeyRequest;
    reply: NewKey;
  };
  /** Revoke a key: it is refused from now on */
  revokeKey: {
    method: "DELETE";
    path: "/api/v1/keys/{name}";
    pathParameters: { name: string };
    reply: void;
  };
  /** Requests, tokens and seconds by day, user and model */
  getUsage: {
    method: "GET";
    path: "/api/v1/usage";
    queryParameters: { first?: string | null; last?: string | null; user?: string | null; by?: ("day" | "user" | "model")[] };
    reply: UsageReply;
  };
  /** A token for a user and password; it needs none itself */
  login: {
    method: "POST";
    path: "/api/v1/login";
    body: LoginRequest;
    reply: LoginReply;
  };
  /** The OpenID provider that people can log in by; it needs no token */
  getProvider: {
    method: "GET";
    path: "/api/v1/login/oidc";
    reply: ProviderInfo;
  };
  /** A token for whom the OpenID provider vouches; it needs none itself */
  loginByProvider: {
    method: "POST";
    path: "/api/v1/login/oidc";
    body: ProviderRequest;
    reply: LoginReply;
  };
  /** The next token of a login */
  refreshLogin: {
    method: "POST";
    path: "/api/v1/login/refresh";
    body: RefreshRequest;
    reply: LoginReply;
  };
  /** End this login: its token is refused from now on */
  logout: {
    method: "POST";
    path: "/api/v1/logout";
    reply: void;
  };
  /** Change one's own password; all logins end */
  changePassword: {
    method: "POST";
    path: "/api/v1/password";
    body: PasswordRequest;
    reply: void;
  };
  /** Who one is here, and what one may */
  whoami: {
    method: "GET";
    path: "/api/v1/whoami";
    reply: WhoAmI;
  };
  /** Every user */
  listUsers: {
    method: "GET";
    path: "/api/v1/users";
    reply: UserList;
  };
  /** Make a user */
  createUser: {
    method: "POST";
    path: "/api/v1/users";
    body: UserRequest;
    reply: UserInfo;
  };
  /** Change a user: role, limits, models, password */
  changeUser: {
    method: "PATCH";
    path: "/api/v1/users/{name}";
    pathParameters: { name: string };
    body: UserChange;
    reply: UserInfo;
  };
  /** Remove a user: their logins end at once */
  removeUser: {
    method: "DELETE";
    path: "/api/v1/users/{name}";
    pathParameters: { name: string };
    reply: void;
  };
  /** End all logins of a user; with the password they may log in anew */
  endLogins: {
    method: "DELETE";
    path: "/api/v1/users/{name}/logins";
    pathParameters: { name: string };
    reply: void;
  };
  /** Who did what: the audit log, and whether it is whole */
  getAudit: {
    method: "GET";
    path: "/api/v1/audit";
    queryParameters: { after?: number; limit?: number; last?: boolean };
    reply: AuditReply;
  };
  /** The last rollouts, the newest first; none where this cluster was never rolled out */
  listRollouts: {
    method: "GET";
    path: "/api/v1/rollouts";
    queryParameters: { limit?: number };
    reply: Rollouts;
  };
  /** One rollout: what it was to do, and what it did, step by step */
  getRollout: {
    method: "GET";
    path: "/api/v1/rollouts/{id}";
    pathParameters: { id: string };
    reply: RolloutDetails;
  };
  /** The cluster.yaml that a rollout applied */
  getRolloutConfiguration: {
    method: "GET";
    path: "/api/v1/rollouts/{id}/configuration";
    pathParameters: { id: string };
    reply: RolloutConfiguration;
  };
  /** What the last plan that was published would change, and when */
  getPlan: {
    method: "GET";
    path: "/api/v1/plan";
    reply: LastPlan;
  };
  /** Complete a prompt; the answer names the worker and how fast it was */
  generate: {
    method: "POST";
    path: "/api/v1/generate";
    body: GenerateRequest;
    reply: GenerateReply;
  };
  /** The next turn of a conversation, of your own or of a session */
  chat: {
    method: "POST";
    path: "/api/v1/chat";
    body: ChatRequest;
    reply: ChatReply;
  };
}
