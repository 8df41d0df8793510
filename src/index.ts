/** NetPopcorn: a TCP/IP stack of N share-nothing kernels behind one card. docs/api.md is the guide to this module. */
export type { BalanceEvent, BalancerStats } from "./balancer/balancer.ts";
export type { BalancerOption } from "./balancer/choosePolicy.ts";
export type { Decision, Move, Observation, Policy, PolicyFunction, StealMove } from "./balancer/policy.ts";
export type { Card, CardOptions } from "./device/card/card.ts";
export type { Impairments } from "./device/card/impairment.ts";
export { createSegment, type Segment, type SegmentOptions } from "./device/card/segment.ts";
export type {
  Device,
  DeviceCapabilities,
  DevicePort,
  PortDescription,
  PortDescriptor,
  QueuePair,
} from "./device/device.ts";
export {
  type SoftwareSteeringOptions,
  type SteeredDevice,
  steerInSoftware,
} from "./device/steered/device.ts";
export {
  createFrameDevice,
  type FrameDevice,
  type FrameDeviceOptions,
  type FrameDeviceStatistics,
} from "./device/frameDevice.ts";
export { openTap } from "./device/openTap.ts";
export type { TapDevice, TapOptions } from "./device/tap/device.ts";
export { NetPopcornError, statusError, statusName } from "./errors.ts";
export { formatAddress, formatMac, parseAddress, parseCidr, parseMac } from "./ip/address.ts";
export type { Clock } from "./kernel/clock.ts";
export { TUNING_RANGES, type Tuning } from "./kernel/config.ts";
export type { EventHandler, HandOver, Handles } from "./kernel/handles.ts";
export type { KernelHost } from "./kernel/host.ts";
export type { Application, KernelStack } from "./kernel/kernelStack.ts";
export type { Seed } from "./kernel/seed.ts";
export * from "./layout/event.ts";
export * from "./layout/option.ts";
export * as tcpInfo from "./layout/tcpInfo.ts";
export * as status from "./layout/status.ts";
export type { MigrationResult } from "./migration/migrator.ts";
export type { Connection, ConnectionInfo } from "./socket/connection.ts";
export type { Listener } from "./socket/listener.ts";
export type { SocketOptionName, SocketOptions } from "./socket/options.ts";
export type { PingOptions, PingReply } from "./ip/pinger.ts";
export type { Datagram, UdpSocket } from "./socket/udp.ts";
export { createStack } from "./stack.ts";
export type {
  BindUdpOptions,
  CloseOptions,
  ConnectOptions,
  ListenOptions,
  Stack,
  StackEvents,
  StackMode,
  StackOptions,
  StackStats,
} from "./types.ts";
export type { TcpInfo } from "./views/tcpInfo.ts";
export type { Counters } from "./views/kernelMemory.ts";
export { setModuleBase } from "./wasm/load.ts";
