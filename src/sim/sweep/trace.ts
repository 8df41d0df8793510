/**
 * Timelines in the Chrome trace-event format (JSON object form), which Perfetto and chrome://tracing open: a process is
 * a simulated point, a thread is a core, a slice is a step of a connection's life or a wait.
 * Format: "Trace Event Format", Google, sections "JSON Object Format" and "Metadata Events".
 */
import type { CellResult } from "./combine.ts";
import { pointName } from "./plan.ts";

type MetadataEvent = {
  readonly name: "process_name" | "thread_name" | "thread_sort_index";
  readonly ph: "M";
  readonly pid: 0;
  readonly tid: number;
  readonly args: { readonly name: string } | { readonly sort_index: number };
};

export type TraceDocument = {
  readonly displayTimeUnit: "ns";
  readonly otherData: Readonly<Record<string, string>>;
  readonly traceEvents: readonly object[];
};

export function traceDocument({ point, result }: CellResult): TraceDocument {
  const cores = Array.from({ length: result.cores }, (_, core) => core);
  const metadata: MetadataEvent[] = [
    { name: "process_name", ph: "M", pid: 0, tid: 0, args: { name: `${pointName(point)}, ${result.workload}` } },
    ...cores.flatMap((core): MetadataEvent[] => [
      { name: "thread_name", ph: "M", pid: 0, tid: core, args: { name: `core ${core}` } },
      { name: "thread_sort_index", ph: "M", pid: 0, tid: core, args: { sort_index: core } },
    ]),
  ];
  return {
    displayTimeUnit: "ns",
    otherData: {
      design: result.design,
      cores: String(result.cores),
      workload: result.workload,
      machine: result.machine,
      seed: String(result.seed),
    },
    traceEvents: [...metadata, ...result.trace],
  };
}

export function traceFileName({ result }: CellResult): string {
  return `trace-${result.design}-${result.cores}.json`;
}
