/**
 * What sysctls of Linux and FreeBSD mean here. A value that asks for what the kernel does anyway is taken; one that
 * asks for something else and has a counterpart sets it; any other is unsupported.
 */
import { FAST_OPEN_MAX } from "../layout/config.ts";
import { CONGESTION_BBR, CONGESTION_CUBIC, CONGESTION_RENO } from "../layout/option.ts";
import { Unsupported } from "./errors.ts";
import type { Settings } from "./settings.ts";

type Rule = (settings: Settings, value: string, name: string) => void;

/** Cannot change what a script sees. */
const harmless: Rule = () => {};

/** The kernel behaves like this and no other way. */
const fixed =
  (...values: readonly string[]): Rule =>
  (_settings, value, name) => {
    if (!values.includes(value)) throw new Unsupported(`sysctl ${name}=${value}`);
  };

function number(value: string, name: string): number {
  if (!/^\d+$/.test(value)) throw new Unsupported(`sysctl ${name}=${value}`);
  return Number(value);
}

const BUFFER_BYTES_MAX = 16 << 20;

/** "min default max" */
function largest(value: string, name: string): number {
  return Math.min(BUFFER_BYTES_MAX, number(value.trim().split(/\s+/).at(-1) ?? "", name));
}

const synRetries: Rule = (settings, value, name) => {
  settings.tuning.synRetriesMax = number(value, name);
};
const seconds =
  (key: "keepaliveIdleMs" | "keepaliveIntervalMs"): Rule =>
  (settings, value, name) => {
    settings.tuning[key] = number(value, name) * 1000;
  };
const milliseconds =
  (key: "keepaliveIdleMs" | "keepaliveIntervalMs" | "timeWaitMs", factor = 1): Rule =>
  (settings, value, name) => {
    settings.tuning[key] = number(value, name) * factor;
  };
const probes: Rule = (settings, value, name) => {
  settings.tuning.keepaliveProbesMax = number(value, name);
};

const sack: Rule = (settings, value, name) => {
  fixed("0", "1")(settings, value, name);
  settings.tuning.sack = Number(value);
};

const CONGESTION: Readonly<Record<string, number>> = {
  reno: CONGESTION_RENO,
  cubic: CONGESTION_CUBIC,
  bbr: CONGESTION_BBR,
};

const ecn: Rule = (settings, value, name) => {
  fixed("0", "1", "2", "3", "4", "5")(settings, value, name);
  settings.tuning.ecn = Number(value);
};

/** Bits that have no meaning here are left out: what Linux does about middleboxes that drop. */
const fastOpen: Rule = (settings, value, name) => {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(value)) throw new Unsupported(`sysctl ${name}=${value}`);
  settings.tuning.fastOpen = Number(value) & FAST_OPEN_MAX;
};

/** `a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4`, once or twice. */
const fastOpenKey: Rule = (settings, value, name) => {
  const keys = value.split(",").flatMap((key) => key.split("-"));
  if (!keys.every((word) => /^[0-9a-f]{1,8}$/i.test(word)) || (keys.length !== 4 && keys.length !== 8)) {
    throw new Unsupported(`sysctl ${name}=${value}`);
  }
  settings.fastOpenKeys = keys.map((word) => Number.parseInt(word, 16));
};

/** Under net.ipv4. */
const LINUX: Readonly<Record<string, Rule>> = {
  tcp_timestamps: (settings, value, name) => {
    fixed("0", "1")(settings, value, name);
    settings.timestamps = value === "1";
  },
  tcp_rmem: (settings, value, name) => {
    settings.tuning.rcvBufferBytesMax = largest(value, name);
  },
  tcp_wmem: (settings, value, name) => {
    settings.tuning.sndBufferBytesMax = largest(value, name);
  },
  tcp_syn_retries: synRetries,
  tcp_synack_retries: synRetries,
  tcp_retries2: (settings, value, name) => {
    settings.tuning.retriesMax = number(value, name);
  },
  tcp_keepalive_time: seconds("keepaliveIdleMs"),
  tcp_keepalive_intvl: seconds("keepaliveIntervalMs"),
  tcp_keepalive_probes: probes,
  ip_local_port_range: (settings, value, name) => {
    const [first = "", last = ""] = value.trim().split(/\s+/);
    settings.tuning.ephemeralPortFirst = number(first, name);
    settings.tuning.ephemeralPortLast = number(last, name);
  },
  tcp_window_scaling: fixed("1"),
  tcp_sack: sack,
  tcp_dsack: fixed("1"),
  tcp_fack: fixed("0"),
  tcp_frto: fixed("1", "2"),
  tcp_reordering: fixed("3"),
  tcp_early_retrans: fixed("3", "4"),
  tcp_recovery: fixed("1"),
  tcp_congestion_control: (settings, value, name) => {
    const algorithm = CONGESTION[value];
    if (algorithm === undefined) throw new Unsupported(`sysctl ${name}=${value}`);
    settings.tuning.congestionControl = algorithm;
  },
  tcp_slow_start_after_idle: (settings, value, name) => {
    fixed("0", "1")(settings, value, name);
    settings.tuning.slowStartAfterIdle = Number(value);
  },
  tcp_ecn: ecn,
  ip_default_ttl: (settings, value, name) => {
    settings.tuning.hopLimit = number(value, name);
  },
  tcp_ecn_option: harmless,
  tcp_fin_timeout: fixed("60"),
  tcp_syncookies: fixed("1"),
  tcp_notsent_lowat: fixed("4294967295", "-1"),
  tcp_mtu_probing: (settings, value, name) => {
    fixed("0", "1")(settings, value, name);
    settings.tuning.mtuProbing = Number(value);
  },
  tcp_moderate_rcvbuf: fixed("1"),
  tcp_rfc1337: harmless,
  tcp_fastopen: fastOpen,
  tcp_fastopen_key: fastOpenKey,
  tcp_fastopen_blackhole_timeout_sec: harmless,
  // How many segments go to the device in one piece: here each is seen by itself.
  tcp_tso_win_divisor: harmless,
  tcp_min_tso_segs: harmless,
  tcp_pacing_ss_ratio: harmless,
  tcp_pacing_ca_ratio: harmless,
  tcp_limit_output_bytes: harmless,
  tcp_no_metrics_save: harmless,
  tcp_autocorking: harmless,
};

/** FreeBSD, by full name. */
const FREEBSD: Readonly<Record<string, Rule>> = {
  "net.inet.tcp.rfc1323": fixed("1"),
  "net.inet.tcp.sack.enable": sack,
  "net.inet.tcp.ecn.enable": ecn,
  "net.inet.tcp.blackhole": fixed("0"),
  "net.inet.tcp.insecure_rst": fixed("0"),
  "net.inet.tcp.insecure_syn": fixed("0"),
  "net.inet.tcp.drop_synfin": fixed("0"),
  "net.inet.tcp.syncookies": fixed("1"),
  "net.inet.tcp.syncookies_only": fixed("0"),
  "net.inet.tcp.icmp_may_rst": fixed("1"),
  "net.inet.tcp.path_mtu_discovery": fixed("1"),
  "net.inet.tcp.udp_tunneling_port": fixed("0"),
  "net.inet.tcp.udp_tunneling_overhead": harmless,
  "net.inet.tcp.mssdflt": fixed("536"),
  "net.inet.tcp.hostcache.purgenow": harmless,
  "net.inet.tcp.rexmit_drop_options": harmless,
  "net.inet.tcp.rexmit_slop": (settings, value, name) => {
    settings.tuning.rtoMinUs = number(value, name) * 1000;
  },
  "net.inet.tcp.rexmit_initial": (settings, value, name) => {
    settings.tuning.rtoInitialUs = number(value, name) * 1000;
  },
  "net.inet.tcp.delacktime": (settings, value, name) => {
    settings.tuning.delayedAckUs = number(value, name) * 1000;
  },
  // How long a SYN may stay unanswered: as many retransmissions, doubling from a second, as end within that time.
  "net.inet.tcp.keepinit": (settings, value, name) => {
    settings.tuning.synRetriesMax = Math.max(0, Math.floor(Math.log2(number(value, name) / 1000 + 1)) - 1);
  },
  "net.inet.tcp.keepidle": milliseconds("keepaliveIdleMs"),
  "net.inet.tcp.keepintvl": milliseconds("keepaliveIntervalMs"),
  "net.inet.tcp.keepcnt": probes,
  "net.inet.tcp.msl": milliseconds("timeWaitMs", 2),
  "net.inet.tcp.recvspace": harmless,
  "net.inet.tcp.sendspace": harmless,
  "net.inet.tcp.fastopen.client_enable": harmless,
  "kern.ipc.maxsockbuf": (settings, value, name) => {
    settings.tuning.rcvBufferBytesMax = Math.min(BUFFER_BYTES_MAX, number(value, name));
  },
};

/**
 * @param name with dots or slashes.
 * @throws Unsupported.
 */
export function setSysctl(settings: Settings, name: string, value: string): void {
  const dotted = name.replaceAll("/", ".");
  const freeBsd = FREEBSD[dotted];
  if (freeBsd) {
    settings.isFreeBsd = true;
    // FreeBSD delays every ACK alike.
    settings.tuning.quickAcks = 0;
    freeBsd(settings, value, dotted);
    return;
  }
  const linux = dotted.startsWith("net.ipv4.") ? LINUX[dotted.slice("net.ipv4.".length)] : undefined;
  if (!linux) throw new Unsupported(`sysctl ${dotted}`);
  linux(settings, value, dotted);
}
