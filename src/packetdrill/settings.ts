/** What a script's options and commands set up before the kernel boots. */
import { formatAddress, parseAddress, parseCidr } from "../ip/address.ts";
import type { KernelConfig, Tuning } from "../kernel/config.ts";
import { resolveTuning } from "../kernel/config.ts";
import { createSeedSource } from "../kernel/seed.ts";
import type { ScriptOption } from "./ast.ts";
import { ScriptError, Unsupported } from "./errors.ts";
import { KERNEL_MAC } from "./neighbor.ts";

export type IpVersion = "ipv4" | "ipv6" | "ipv4-mapped-ipv6";

/** Options as they have been so far; commands may still change `tuning` until the kernel boots. */
export class Settings {
  ipVersion: IpVersion = "ipv4";
  /** Undefined: the family's default. */
  localIp: string | undefined;
  remoteIp: string | undefined;
  gatewayIp: string | undefined;
  netmaskIp: string | undefined;
  bindPort = 8080;
  connectPort = 8080;
  mtuBytes = 1500;
  /** Packets to the kernel that are larger come as segments of this size, in one burst; 0: each in one piece. */
  inboundMssBytes = 0;
  toleranceUs = 4000;
  tolerancePercent = 12.5;
  /** One tick of the kernel's timestamp clock; 0: the values are not looked at. */
  tsTickUs = 0;
  allowsScaledEcr = false;
  /** Every packet of the script is one segment. */
  hasStrictSegments = false;
  isDryRun = false;
  /** Differences that are reported and do not fail the script. */
  readonly nonFatal = new Set<string>();
  /** The script was written for another stack: see compare.ts. */
  isForeign = false;
  /** A packet that the kernel sends and the script does not expect fails the script at its end. */
  expectsAll = false;
  seed = 1;

  timestamps = true;
  /** Of fast open's cookies, so that scripts can name them. */
  fastOpenKeys: readonly number[] = [0xa1a1a1a1, 0xb2b2b2b2, 0xc3c3c3c3, 0xd4d4d4d4];
  /** FreeBSD's sysctl names have been used: the script speaks that dialect. */
  isFreeBsd = false;
  readonly tuning: { -readonly [Name in keyof Tuning]?: Tuning[Name] } = {};

  /** Of what the kernel's memory has been carved by when it was booted. */
  #sizes: string | undefined;

  get #sizesNow(): string {
    const { rcvBufferBytesMax, sndBufferBytesMax, ephemeralPortFirst, ephemeralPortLast } = this.tuning;
    const fixed = [rcvBufferBytesMax, sndBufferBytesMax, ephemeralPortFirst, ephemeralPortLast];
    return JSON.stringify([fixed, this.fastOpenKeys, this.mtuBytes]);
  }

  /** The kernel boots. */
  freezeSizes(): void {
    this.#sizes = this.#sizesNow;
  }

  haveSizesChanged(): boolean {
    return this.#sizes !== this.#sizesNow;
  }

  /** @throws ScriptError, Unsupported. */
  apply({ name, value, line }: ScriptOption): void {
    const handler = OPTIONS[name];
    if (handler === undefined) throw new ScriptError(line, `there is no option --${name}`);
    handler(this, value ?? "", line);
  }

  get localAddress(): Uint8Array {
    return parseAddress(this.localIp ?? (this.ipVersion === "ipv6" ? "fd3d:fa7b:d17d::1" : "192.168.0.1"));
  }

  get remoteAddress(): Uint8Array {
    return parseAddress(this.remoteIp ?? (this.ipVersion === "ipv6" ? "2001:db8::1" : "192.0.2.1"));
  }

  /** The original gives its end of the tunnel the address --gateway_ip, which may be --local_ip: a host has others. */
  get #gatewayAddress(): Uint8Array {
    const gateway = parseAddress(
      this.gatewayIp ?? (this.ipVersion === "ipv6" ? "fd3d:fa7b:d17d:8888::" : "192.168.0.254"),
    );
    const last = gateway.length - 1;
    const isOwn = gateway.every((byte, at) => byte === this.localAddress[at]);
    if (isOwn) gateway[last] = (gateway[last] as number) ^ 2;
    return gateway;
  }

  get #prefixLength(): number {
    if (this.ipVersion === "ipv6") return 48;
    const mask = parseAddress(this.netmaskIp ?? "255.255.0.0").subarray(12);
    return [...mask].reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0);
  }

  kernelConfig(): KernelConfig {
    return {
      kernelId: 0,
      seed: createSeedSource(this.seed)(0),
      fastOpenKeys: Uint32Array.from(this.fastOpenKeys),
      mac: KERNEL_MAC,
      addresses: [parseCidr(`${formatAddress(this.localAddress)}/${this.#prefixLength}`)],
      gateway: this.#gatewayAddress,
      mtuBytes: this.mtuBytes,
      rxLanes: 1,
      // Scripts see what is on the wire: segments, not what a device would cut up.
      tsoBytesMax: 0,
      checksumOffload: false,
      timestamps: this.timestamps,
      noDelay: false,
      tuning: resolveTuning({ ...MACHINE_TUNING, ...this.tuning }, 1),
    };
  }
}

const MIB = 1 << 20;

/** One connection at a time needs little; the rings hold a burst of the largest packets. */
const MACHINE_TUNING: Partial<Tuning> = {
  memoryBytes: 64 * MIB,
  connectionsMax: 64,
  streamPoolBytes: 40 * MIB,
  rxRingBytes: MIB,
  txRingBytes: 8 * MIB,
  neighborsMax: 64,
  listenersMax: 16,
  udpSocketsMax: 16,
  reassemblyBytesMax: MIB,
  rcvBufferBytesMax: 15 * MIB,
  sndBufferBytesMax: 4 * MIB,
  // As Linux has it by default; sysctl tcp_mtu_probing switches it on.
  mtuProbing: 0,
};

function integer(value: string, name: string, line: number, min: number, max: number): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < min || number > max) {
    throw new ScriptError(line, `--${name}=${value}: it must be an integer ${min}..${max}`);
  }
  return number;
}

type Handler = (settings: Settings, value: string, line: number) => void;

const unsupportedOption =
  (what: string): Handler =>
  (_settings, _value, line) => {
    throw new Unsupported(what, line);
  };

/** An option that has no meaning here and changes nothing. */
const ignored: Handler = () => {};

const WIRE = unsupportedOption("runs on two machines (--wire_client, --wire_server)");

const OPTIONS: Readonly<Record<string, Handler>> = {
  ip_version(settings, value, line) {
    if (value !== "ipv4" && value !== "ipv6" && value !== "ipv4-mapped-ipv6") {
      throw new ScriptError(line, `--ip_version=${value}: it must be ipv4, ipv6 or ipv4-mapped-ipv6`);
    }
    settings.ipVersion = value;
  },
  local_ip: (settings, value) => {
    settings.localIp = value;
  },
  remote_ip: (settings, value) => {
    settings.remoteIp = value.replace(/\/\d+$/, "");
  },
  gateway_ip: (settings, value) => {
    settings.gatewayIp = value;
  },
  netmask_ip: (settings, value) => {
    settings.netmaskIp = value;
  },
  bind_port: (settings, value, line) => {
    settings.bindPort = integer(value, "bind_port", line, 1, 65535);
  },
  connect_port: (settings, value, line) => {
    settings.connectPort = integer(value, "connect_port", line, 1, 65535);
  },
  mtu: (settings, value, line) => {
    const mtu = integer(value, "mtu", line, 68, 65535);
    if (mtu < 576) throw new Unsupported(`an MTU of ${mtu}: the kernel's smallest is 576`, line);
    settings.mtuBytes = mtu;
  },
  mss: (settings, value, line) => {
    settings.inboundMssBytes = integer(value, "mss", line, 0, 65535);
  },
  tolerance_usecs: (settings, value, line) => {
    settings.toleranceUs = integer(value, "tolerance_usecs", line, 0, 3_600_000_000);
  },
  tolerance_percent: (settings, value, line) => {
    if (!/^\d+(\.\d+)?$/.test(value)) throw new ScriptError(line, `--tolerance_percent=${value} is no number`);
    settings.tolerancePercent = Number(value);
  },
  tcp_ts_tick_usecs: (settings, value, line) => {
    settings.tsTickUs = integer(value, "tcp_ts_tick_usecs", line, 0, 1_000_000);
  },
  tcp_ts_ecr_scaled: (settings) => {
    settings.allowsScaledEcr = true;
  },
  strict_segments: (settings) => {
    settings.hasStrictSegments = true;
  },
  dry_run: (settings) => {
    settings.isDryRun = true;
  },
  non_fatal: (settings, value) => {
    for (const kind of value.split(",")) settings.nonFatal.add(kind);
  },
  foreign: (settings) => {
    settings.isForeign = true;
  },
  expect_all: (settings) => {
    settings.expectsAll = true;
  },
  verbose: ignored,
  debug: ignored,
  speed: ignored,
  // The assertions are read by assertions.ts, whatever runs them elsewhere.
  code_command: ignored,
  code_format: (_settings, value, line) => {
    if (value !== "python") throw new Unsupported(`code in ${value}`, line);
  },
  code_sockopt: ignored,
  send_omit_free: ignored,
  persistent_tun_dev: ignored,
  tun_dev: ignored,
  init_scripts: unsupportedOption("--init_scripts"),
  is_anyip: unsupportedOption("--is_anyip"),
  so_filename: unsupportedOption("another stack as shared object (--so_filename)"),
  so_flags: unsupportedOption("another stack as shared object (--so_flags)"),
  udp_encapsulation: unsupportedOption("TCP over UDP"),
  tcp_md5_secret: unsupportedOption("TCP option md5"),
  psp_udp_port: unsupportedOption("PSP"),
  wire_client: WIRE,
  wire_server: WIRE,
  wire_server_ip: WIRE,
  wire_server_at: WIRE,
  wire_server_port: WIRE,
  wire_client_dev: WIRE,
  wire_server_dev: WIRE,
};
