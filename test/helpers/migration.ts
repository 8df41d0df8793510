/** Two kernels of one stack on two workbenches, and the move of a flow group between them, step by step. */
import * as MIGRATION from "../../src/layout/migration.ts";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import { type BenchOptions, KernelBench } from "./kernelBench.ts";

const LIST_MAX = 64;

export type BenchPair = { readonly source: KernelBench; readonly target: KernelBench };

/** Kernels with different seeds that share the stack's. */
export function createPair(options: BenchOptions = {}, target: BenchOptions = {}): BenchPair {
  return {
    source: new KernelBench({ seed: 1, stackSeed: 77, ...options }),
    target: new KernelBench({ seed: 2, stackSeed: 77, ...options, ...target }),
  };
}

export function groupOf(port: number): number {
  return port & 4095;
}

/** Freezes all connections of a group, `budget` TCBs at a time. */
export function freeze(bench: KernelBench, group: number, budget = 1000): void {
  for (let first = 1, left = 1; left > 0; first = 0) left = bench.wasm.migrationFreeze(group, first, budget);
}

/** The stream of records of what is frozen. */
export function exportFrozen(bench: KernelBench, pieceBytes = 65536): Uint8Array<ArrayBuffer>[] {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (let first = 1; ; first = 0) {
    const bytes = bench.wasm.migrationExport(first, bench.area, pieceBytes);
    if (bytes > 0) pieces.push(bench.bytes.slice(bench.area, bench.area + bytes));
    if (bytes < pieceBytes) return pieces;
  }
}

/** @returns the status of the last piece taken, or of the end. */
export function importPieces(bench: KernelBench, pieces: readonly Uint8Array[]): number {
  for (const piece of pieces) {
    bench.bytes.set(piece, bench.area);
    const status = bench.wasm.migrationImport(bench.area, piece.length);
    if (status < 0) return status;
  }
  return bench.wasm.migrationImportEnd();
}

/** Handle here, by the handle in the kernel that it comes from. */
export function listFrozen(bench: KernelBench): Map<number, number> {
  const handles = new Map<number, number>();
  const count = bench.wasm.migrationList(0, RESULT_BASE, LIST_MAX);
  for (let i = 0; i < count; i++) {
    const at = RESULT_BASE + i * MIGRATION.MIGRATION_LIST_SIZE_BYTES;
    handles.set(
      bench.memory.loadU32(at + MIGRATION.MIGRATION_LIST_SOURCE_HANDLE),
      bench.memory.loadU32(at + MIGRATION.MIGRATION_LIST_HANDLE),
    );
  }
  return handles;
}

export type Moved = { readonly status: number; readonly handles: Map<number, number>; readonly bytes: number };

/** A whole move; refused by the target, everything stays. */
export function move({ source, target }: BenchPair, group: number, pieceBytes = 65536): Moved {
  target.wasm.migrationSetGroup(group, MIGRATION.GROUP_ARRIVING);
  source.wasm.migrationSetGroup(group, MIGRATION.GROUP_LEFT + 1);
  freeze(source, group);
  const pieces = exportFrozen(source, pieceBytes);
  const status = importPieces(target, pieces);
  const handles = listFrozen(target);
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  target.wasm.migrationSetGroup(group, MIGRATION.GROUP_STEADY);
  if (status < 0) {
    target.wasm.migrationDiscard(0);
    source.wasm.migrationSetGroup(group, MIGRATION.GROUP_STEADY);
    source.wasm.migrationThaw(0);
    target.wasm.migrationDropHeld(group);
  } else {
    target.wasm.migrationThaw(1);
    source.wasm.migrationDiscard(1);
    target.wasm.migrationReplayHeld(group);
  }
  return { status, handles, bytes };
}

/** Takes frames that came too late to their group's new kernel. @returns how many. */
export function forwardLate({ source, target }: BenchPair): number {
  let frames = 0;
  for (let record = source.wasm.migrationLatePeek(); record !== 0; record = source.wasm.migrationLatePeek()) {
    const bytes = source.memory.loadU32(RESULT_BASE);
    target.bytes.set(source.bytes.subarray(record, record + bytes), target.area);
    source.wasm.migrationLateDrop();
    target.wasm.migrationReplay(target.area);
    frames++;
  }
  return frames;
}
