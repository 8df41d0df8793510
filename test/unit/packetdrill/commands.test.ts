import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runCommands } from "../../../src/packetdrill/commands.ts";
import { Settings } from "../../../src/packetdrill/settings.ts";
import { parseShell } from "../../../src/packetdrill/shell.ts";

describe("parseShell", () => {
  test.each([
    ["a b; c && d || e", [[["a", "b"]], [["c"]], [["d"]], [["e"]]]],
    ["a 'b c' d=\"e f\" # g", [[["a", "b c", "d=e f"]]]],
    ["a > /dev/null 2>&1 b", [[["a", "b"]]]],
    ["a &> x", [[["a"]]]],
    ["a | b -c | d", [[["a"], ["b", "-c"], ["d"]]]],
    ['x="4096 $((256*1024)) $((1+2*(3-1)))"', [[["x=4096 262144 5"]]]],
    ["a \\\n  b\nc", [[["a", "b"]], [["c"]]]],
    ["# only a comment", []],
  ])("%s", (text, expected) => {
    expect(parseShell(text)).toEqual(expected);
  });
});

describe("runCommands", () => {
  const context = (settings: Settings, directory = ".") => ({
    settings,
    directory,
    line: 1,
    machine: undefined,
    isLast: false,
  });

  test("sysctls with a counterpart set it", () => {
    const settings = new Settings();
    runCommands("sysctl -q net.ipv4.tcp_syn_retries=3 net.ipv4.tcp_timestamps=0", context(settings));
    runCommands("../common/set_sysctls.py /proc/sys/net/ipv4/tcp_keepalive_time=10", context(settings));
    runCommands("sysctl -w net.inet.tcp.delacktime=20", context(settings));
    expect(settings.tuning).toMatchObject({ synRetriesMax: 3, keepaliveIdleMs: 10_000, delayedAckUs: 20_000 });
    expect(settings.timestamps).toBe(false);
    expect(settings.isFreeBsd).toBe(true);
  });

  test.each([
    "sysctl -q net.ipv4.tcp_window_scaling=0",
    "sysctl -w net.inet.tcp.blackhole=1",
    "sysctl net.ipv4.no_such=1",
    "ip route change 192.0.2.1 advmss 600",
    "tc qdisc replace dev tun0 root fq",
    "ethtool -K tun0 tso on",
    "rm -rf x",
    "./missing.sh",
    "nstat | grep TcpExtOutOfWindowIcmps",
  ])("%s is unsupported", (command) => {
    expect(() => runCommands(command, context(new Settings()))).toThrow("unsupported: ");
  });

  test("nothing that comes after the last packet counts", () => {
    expect(() => runCommands("rm -rf x", { ...context(new Settings()), isLast: true })).not.toThrow();
  });

  test("a file of commands is read from the script's directory", () => {
    const directory = mkdtempSync(join(tmpdir(), "packetdrill-"));
    try {
      writeFileSync(join(directory, "a.sh"), "#!/bin/bash\n./b.sh\n");
      writeFileSync(join(directory, "b.sh"), 'sysctl -q net.ipv4.tcp_rmem="4096 540000 $((15*1024*1024))"\n');
      writeFileSync(join(directory, "loop.sh"), "./loop.sh\n");
      const settings = new Settings();
      runCommands("./a.sh", context(settings, directory));
      expect(settings.tuning.rcvBufferBytesMax).toBe(15 << 20);
      expect(() => runCommands("./loop.sh", context(settings, directory))).toThrow("run each other");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
